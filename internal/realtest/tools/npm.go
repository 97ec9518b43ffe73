package tools

import (
	"context"
	"embed"
	"encoding/json"
	"os"
	"path/filepath"
)

// axeFiles name axe-core, which finds what in a page people with disabilities can't use. It has a folder of its own, so that another
// version of it installs nothing else again.
//
//go:embed axe/package.json axe/package-lock.json
var axeFiles embed.FS

var axe = npmPackages{files: axeFiles, from: "axe", to: "axe"}

// npmPackages are those of a package.json and its lock.
type npmPackages struct {
	files embed.FS
	from  string // folder in files
	to    string // folder in Dir
}

func (n npmPackages) dir() string { return filepath.Join(Dir(), n.to) }

// installed reports whether the packages that package.json names are there in its versions.
func (n npmPackages) installed() bool {
	raw, err := n.files.ReadFile(n.from + "/package.json")
	if err != nil {
		return false
	}
	var want struct{ Dependencies map[string]string }
	if json.Unmarshal(raw, &want) != nil {
		return false
	}
	for name, version := range want.Dependencies {
		raw, err := os.ReadFile(filepath.Join(n.dir(), "node_modules", name, "package.json"))
		var got struct{ Version string }
		if err != nil || json.Unmarshal(raw, &got) != nil || got.Version != version {
			return false
		}
	}
	return true
}

// install installs the packages without their install scripts.
func (n npmPackages) install(ctx context.Context) error {
	if err := os.MkdirAll(n.dir(), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := n.files.ReadFile(n.from + "/" + name)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(n.dir(), name), content); err != nil {
			return err
		}
	}
	return run(ctx, n.dir(), nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
}

// writeFile writes under a temporary name and renames.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
