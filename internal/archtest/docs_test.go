package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

const maxColumns = 140 // of a line of Markdown or Go

// tracked lists the files of the repository that end so.
func tracked(t *testing.T, pattern string) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern)
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return strings.Fields(string(out))
}

// columns is the width of a line, a tab being four columns.
func columns(line string) int { return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t") }

// longLines lists the lines of a text that are too long; skip names those that may be.
func longLines(text string, skip func(line string) bool) (numbers []int) {
	for i, line := range strings.Split(text, "\n") {
		if columns(line) > maxColumns && !skip(line) {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// wontBreak reports whether a line of Markdown can't be broken: a row of a table, or program output.
func wontBreak(line string) bool {
	return strings.HasPrefix(line, "|") || strings.HasPrefix(line, "    ") && !strings.Contains(line, ". ")
}

// Lines of Markdown fit on a screen.
func TestMarkdownLines(t *testing.T) {
	files := tracked(t, "*.md")
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range longLines(string(text), wontBreak) {
			t.Errorf("%s:%d is over %d columns", name, n, maxColumns)
		}
	}
}

// Lines of Go fit on a screen, but for those of tests, and raw strings, which can't be broken: tags of struct fields, scripts.
func TestGoLines(t *testing.T) {
	for _, name := range tracked(t, "*.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range longLines(string(text), func(line string) bool { return strings.Contains(line, "`") }) {
			t.Errorf("%s:%d is over %d columns", name, n, maxColumns)
		}
	}
}

var (
	markdownLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	markdownHeading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor     = regexp.MustCompile(`[^\pL\pN _-]`)
)

// brokenLinks lists the links of a document that lead nowhere in the repository at dir.
func brokenLinks(dir, name, text string) (broken []string) {
	for _, m := range markdownLink.FindAllStringSubmatch(text, -1) {
		path, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(path, "://") {
			continue
		}
		target, content := filepath.Join(dir, filepath.Dir(name), path), text
		if path != "" {
			if _, err := os.Stat(target); err != nil {
				broken = append(broken, m[1])
				continue
			}
		}
		if anchor == "" {
			continue
		}
		if path != "" {
			raw, err := os.ReadFile(target)
			if err != nil {
				broken = append(broken, m[1])
				continue
			}
			content = string(raw)
		}
		if !hasAnchor(content, anchor) {
			broken = append(broken, m[1])
		}
	}
	return broken
}

// hasAnchor reports whether a document has a heading that GitHub gives that anchor.
func hasAnchor(text, anchor string) bool {
	for _, h := range markdownHeading.FindAllStringSubmatch(text, -1) {
		if strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// Links between documents lead somewhere, and the index names each document.
func TestMarkdownLinks(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root(t), "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tracked(t, "*.md") {
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range brokenLinks(root(t), name, string(text)) {
			t.Errorf("%s: the link %s leads nowhere", name, link)
		}
		base := filepath.Base(name)
		if filepath.Dir(name) == "docs" && base != "README.md" && !strings.Contains(string(index), "]("+base+")") {
			t.Errorf("docs/README.md does not name %s", base)
		}
	}
}

// The two checks find what they are there for.
func TestDocumentChecksBite(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b.md"), []byte("# What `is` there?\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := "[a](b.md) [b](b.md#what-is-there) [c](#here) [d](https://example.com/x#y) [e](c.md) [f](b.md#not) [g](#gone)\n## Here\n"
	if got := strings.Join(brokenLinks(dir, "a.md", text), " "); got != "c.md b.md#not #gone" {
		t.Errorf("broken links %q", got)
	}
	long := strings.Repeat("x", maxColumns+1)
	if got := longLines(long+"\nshort\n| "+long+" |\n"+long[1:], wontBreak); len(got) != 1 || got[0] != 1 {
		t.Errorf("long lines %v, want the first", got)
	}
}
