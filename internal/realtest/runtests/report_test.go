package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRun runs it on a module whose packages pass, fail, panic, have no tests and don't compile.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":               "module example.com/m\n",
		"good/a_test.go":       "package good\nimport \"testing\"\nfunc TestGood(t *testing.T) { t.Log(\"quiet\") }\nfunc TestSkipped(t *testing.T) { t.Skip(\"why\") }\n",
		"bad/a_test.go":        "package bad\nimport \"testing\"\nfunc TestFine(t *testing.T) { t.Log(\"quiet\") }\nfunc TestBad(t *testing.T) {\n\tt.Log(\"heard\")\n\tt.Run(\"sub\", func(t *testing.T) { t.Error(\"the reason\") })\n\tt.Run(\"ok\", func(t *testing.T) { t.Log(\"quiet\") })\n}\n",
		"panics/a_test.go":     "package panics\nimport \"testing\"\nfunc TestPanics(t *testing.T) { panic(\"boom\") }\n",
		"untested/a.go":        "package untested\n",
		"uncompiled/a_test.go": "package uncompiled\nimport \"testing\"\nfunc TestNot(t *testing.T) { undefined1() }\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	var out bytes.Buffer
	code, err := run(context.Background(), &out, "", []string{"-count=1"})
	if code != 1 || err != nil {
		t.Errorf("exit status %d, %v; want go test's 1", code, err)
	}
	text := out.String()
	for _, want := range []string{
		`(?m)^ok  \texample.com/m/good\t[\d.]+s$`, `(?m)^FAIL\texample.com/m/bad\t[\d.]+s$`, `(?m)^FAIL\texample.com/m/panics\t[\d.]+s$`,
		`(?m)^FAIL\texample.com/m/uncompiled \[build failed\]$`, `(?m)^\?   \texample.com/m/untested\t\[no test files\]$`,
		`heard`, `the reason`, `panic: boom`, `undefined: undefined1`, `# slowest packages:`,
		`# 5 of 5 packages, 3 tests passed, 1 skipped, 3 failed, in`, `# failed: example.com/m/bad TestBad/sub`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "quiet") {
		t.Error("prints what tests that pass have logged")
	}
	if t.Failed() {
		t.Log(text)
	}
	out.Reset()
	if code, err := run(context.Background(), &out, "", []string{"-count=1", "./good"}); code != 0 || err != nil {
		t.Errorf("the good package alone: %d, %v\n%s", code, err, out.String())
	}
}

func TestHowFar(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, 3)
	r.read(strings.NewReader(`{"Action":"run","Package":"example.com/a/m/e2e","Test":"TestWaits"}
{"Action":"pause","Package":"example.com/a/m/e2e","Test":"TestWaits"}
{"Action":"run","Package":"example.com/a/m/e2e","Test":"TestSlow"}
{"Action":"pass","Package":"example.com/a/m/one","Elapsed":1}
not JSON
`))
	if out.String() != "not JSON\n" {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	done, printed := make(chan struct{}), make(chan struct{})
	go func() { r.tick(done, time.Millisecond); close(printed) }()
	for deadline := time.Now().Add(30 * time.Second); ; {
		r.mu.Lock()
		n := out.Len()
		r.mu.Unlock()
		if n > 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(done)
	<-printed
	if got := out.String(); !strings.HasPrefix(got, "# 0s: 1 of 3 packages done; running e2e TestSlow 0s\n") {
		t.Errorf("%q", got)
	}
}

func TestFirst(t *testing.T) {
	got, err := list(context.Background(), []string{"../../../..."})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got[0], "/e2e") || !strings.HasSuffix(got[1], "/registry/pds") || len(got) < 40 {
		t.Errorf("%d packages, first %q", len(got), got[:2])
	}
}
