package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

func TestArchives(t *testing.T) {
	files := []file{{program, 0o755, []byte("the program")}, {"LICENSE", 0o644, []byte("MIT")}}
	for platform, want := range map[string]string{"linux/arm64": program + "_1.2_linux_arm64.tar.gz",
		"windows/amd64": program + "_1.2_windows_amd64.zip"} {
		name, archive, err := pack(platform, "1.2", files)
		if err != nil || name != want {
			t.Fatalf("%s, %v, want %s", name, err, want)
		}
		if _, again, _ := pack(platform, "1.2", files); !bytes.Equal(archive, again) {
			t.Errorf("%s: the same files make another archive", platform)
		}
		got := unpack(t, name, archive)
		if len(got) != 2 || got[program] != "the program" || got["LICENSE"] != "MIT" {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

func unpack(t *testing.T, name string, archive []byte) map[string]string {
	out := map[string]string{}
	if name[len(name)-4:] == ".zip" {
		z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			out[f.Name] = string(data)
		}
		return out
	}
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(gz); ; {
		head, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if head.Name == program && head.Mode != 0o755 {
			t.Errorf("the program has mode %o", head.Mode)
		}
		out[head.Name] = string(data)
	}
}
