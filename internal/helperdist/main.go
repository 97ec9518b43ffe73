// Command helperdist makes docker-credential-atcr as it is handed out: for each platform an archive with the program, the licence, the
// manual page and shell completion, and beside them SHA256SUMS. It prints what the programs weigh and which modules are in them, and fails
// when one is too big.
//
//	go run ./internal/helperdist -o dist            # all platforms
//	go run ./internal/helperdist -o dist linux/arm64
package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	program = "docker-credential-atcr"
	limit   = 10_000_000 // bytes of a program
)

var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

func main() {
	out := flag.String("o", "dist", "folder for the archives")
	version := flag.String("version", "", "in the archives' names; what git describes otherwise")
	flag.Parse()
	if err := run(*out, *version, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "helperdist:", err)
		os.Exit(1)
	}
}

// file is one in an archive.
type file struct {
	name string
	mode int64
	data []byte
}

func run(out, version string, wanted []string, w io.Writer) error {
	if len(wanted) == 0 {
		wanted = platforms
	}
	if version == "" {
		version = described()
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", program)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	extra, err := documents(tmp)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	modules, heavy := map[string][]string{}, []string{}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "platform\tprogram\tarchive\t")
	for _, platform := range wanted {
		exe, err := build(tmp, platform, modules)
		if err != nil {
			return err
		}
		name, archive, err := pack(platform, version, append([]file{*exe}, extra...))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, name), archive, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(archive), name)
		fmt.Fprintf(table, "%s\t%.1f MB\t%.1f MB\t%s\n", platform, mb(exe.data), mb(archive), filepath.Join(out, name))
		if len(exe.data) > limit {
			heavy = append(heavy, fmt.Sprintf("%s has %d bytes", platform, len(exe.data)))
		}
	}
	if err := os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(table)
	for _, module := range slices.Sorted(maps.Keys(modules)) {
		on := ""
		if len(modules[module]) < len(wanted) {
			on = strings.Join(modules[module], " ")
		}
		fmt.Fprintf(table, "%s\t%s\n", module, on)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(heavy) > 0 {
		return fmt.Errorf("more than %d bytes: %s", limit, strings.Join(heavy, ", "))
	}
	return nil
}

func mb(b []byte) float64 { return float64(len(b)) / 1e6 }

// described is the version that git knows.
func described() string {
	out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "devel"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}

// build makes the program for a platform, and notes which modules are in it.
func build(tmp, platform string, modules map[string][]string) (*file, error) {
	system, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("%q is no platform: write it as in linux/amd64", platform)
	}
	name := program
	if system == "windows" {
		name += ".exe"
	}
	path := filepath.Join(tmp, system+"-"+arch, name)
	if err := compile(path, "GOOS="+system, "GOARCH="+arch); err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, dep := range info.Deps {
		module := dep.Path + " " + dep.Version
		modules[module] = append(modules[module], platform)
	}
	data, err := os.ReadFile(path)
	return &file{name, 0o755, data}, err
}

func compile(path string, env ...string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/"+program)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build for %s: %w\n%s", strings.Join(env, " "), err, text)
	}
	return nil
}

// documents are the files beside the program, as the program prints them.
func documents(tmp string) ([]file, error) {
	licence, err := os.ReadFile("LICENSE")
	if err != nil {
		return nil, fmt.Errorf("%w; run this at the module's root", err)
	}
	path := filepath.Join(tmp, "here", program)
	if err := compile(path, "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH); err != nil {
		return nil, err
	}
	files := []file{{"LICENSE", 0o644, licence}}
	for name, args := range map[string][]string{program + ".1": {"man"}, "completion/" + program + ".bash": {"completion", "bash"},
		"completion/_" + program: {"completion", "zsh"}, "completion/" + program + ".fish": {"completion", "fish"}} {
		text, err := exec.Command(path, args...).Output()
		if err != nil || len(text) == 0 {
			return nil, errors.Join(fmt.Errorf("%s %s printed %d bytes", program, strings.Join(args, " "), len(text)), err)
		}
		files = append(files, file{name, 0o644, text})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// pack makes the archive, the same bytes from the same files: zip for Windows, tar.gz elsewhere.
func pack(platform, version string, files []file) (name string, archive []byte, err error) {
	system, arch, _ := strings.Cut(platform, "/")
	name = fmt.Sprintf("%s_%s_%s_%s", program, version, system, arch)
	if system == "windows" {
		archive, err = zipped(files)
		return name + ".zip", archive, err
	}
	archive, err = tarred(files)
	return name + ".tar.gz", archive, err
}

func zipped(files []file) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		w, err := z.Create(f.name)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func tarred(files []file) ([]byte, error) {
	var out bytes.Buffer
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(gz)
	for _, f := range files {
		head := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := t.WriteHeader(head); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(t.Close(), gz.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
