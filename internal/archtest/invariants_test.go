package archtest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/invariants.md names exists, in a package of that name.
func TestInvariantsNameRealTests(t *testing.T) {
	text, err := os.ReadFile("../../docs/invariants.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("git", "-C", "../..", "grep", "-hoE", `^(package [a-z0-9_]+|func Test[A-Za-z0-9]+\()`, "--", "*_test.go").Output()
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	tests := map[string]bool{}
	pkg := ""
	for _, line := range strings.Split(string(out), "\n") {
		if name, ok := strings.CutPrefix(line, "package "); ok {
			pkg = strings.TrimSuffix(name, "_test")
		} else if name, ok := strings.CutPrefix(line, "func "); ok {
			tests[pkg+"."+strings.TrimSuffix(name, "(")] = true
			tests["."+strings.TrimSuffix(name, "(")] = true
		}
	}
	named := regexp.MustCompile("`([a-z0-9-]*)\\.?(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, m := range named {
		pkg := m[1]
		if pkg == "embed-registry" {
			pkg = "main"
		}
		if !tests[pkg+"."+m[2]] {
			t.Errorf("docs/invariants.md names %s.%s, which is no test", m[1], m[2])
		}
	}
}
