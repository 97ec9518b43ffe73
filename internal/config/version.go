package config

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Build is what a program was built from.
type Build struct {
	Program  string `json:"program,omitempty"`
	Version  string `json:"version"`            // of the module; (devel) for one that was built in a clone
	Commit   string `json:"commit,omitempty"`   // 12 hex digits
	Modified bool   `json:"modified,omitempty"` // the clone differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// ReadBuild returns what this program was built from.
func ReadBuild() Build {
	b := Build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is the build on one line.
func (b Build) String() string {
	text := b.Version
	if b.Commit != "" {
		text += " " + b.Commit
	}
	if b.Modified {
		text += " modified"
	}
	return fmt.Sprintf("%s %s %s", text, b.Go, b.Platform)
}

// Version is what a program says about its build: module version, commit when it was built from one, Go and platform.
func Version() string { return ReadBuild().String() }
