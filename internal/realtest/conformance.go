package realtest

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// ConformanceOptions says what the suite is run against.
type ConformanceOptions struct {
	Login                    // registry and who pushes
	Repository1, Repository2 string
	Set                      map[string]string // more of the suite's variables without OCI_, such as API_BLOBS_DELETE
}

// A ConformanceResult is what the OCI distribution conformance suite found. Counts
// are the suite's own.
type ConformanceResult struct {
	Total, Pass, Fail, Skip, Disabled int
	Failures                          []string // "test: what went wrong"
	Skips                             []string // "test: why"
}

// String is one line with the counts.
func (r ConformanceResult) String() string {
	return fmt.Sprintf("conformance: %d total, %d pass, %d fail, %d skip, %d disabled", r.Total, r.Pass, r.Fail, r.Skip, r.Disabled)
}

// Conformance runs the whole suite with everything that version 1.1 has and
// upload cancelling, digest headers and ?tag= besides. It fails t only when the
// suite could not be run: what it found is the result.
func Conformance(t testing.TB, o ConformanceOptions) ConformanceResult {
	t.Helper()
	Need(t, tools.Conformance)
	c := newTool(t, tools.Path(tools.Conformance), Login{})
	set := map[string]string{
		"REGISTRY": o.Registry, "TLS": "disabled", "REPO1": o.Repository1, "REPO2": o.Repository2,
		"USERNAME": o.User, "PASSWORD": o.Password, "RESULTS_DIR": c.dir, "LOG": "error",
		"API_BLOBS_UPLOAD_CANCEL": "true", "API_BLOBS_DIGEST_HEADER": "true",
		"API_MANIFESTS_DIGEST_HEADER": "true", "API_MANIFESTS_TAG_PARAM": "true",
	}
	for k, v := range o.Set {
		set[k] = v
	}
	for k, v := range set {
		c.env = append(c.env, "OCI_"+k+"="+v)
	}
	out, runErr := c.run() // status 1 says that something failed; the report says what
	r, err := readJUnit(filepath.Join(c.dir, "junit.xml"))
	if err != nil {
		t.Fatalf("realtest: conformance suite: %v\n%s", errors.Join(err, runErr), out)
	}
	return r
}

func readJUnit(path string) (ConformanceResult, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ConformanceResult{}, err
	}
	var report struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Skipped  int `xml:"skipped,attr"`
			Disabled int `xml:"disabled,attr"`
			Cases    []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
				Out    string `xml:"system-out"`
				Err    string `xml:"system-err"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(raw, &report); err != nil {
		return ConformanceResult{}, err
	}
	var r ConformanceResult
	for _, s := range report.Suites {
		r.Total += s.Tests
		r.Fail += s.Failures + s.Errors
		r.Skip += s.Skipped
		r.Disabled += s.Disabled
		for _, c := range s.Cases {
			name := strings.TrimPrefix(c.Name, "OCI Conformance Test/")
			switch c.Status {
			case "failure", "error":
				r.Failures = append(r.Failures, name+": "+strings.Join(strings.Fields(c.Out), " "))
			case "skipped":
				r.Skips = append(r.Skips, name+": "+cmp.Or(strings.TrimSpace(c.Out), skipReason(c.Err)))
			}
		}
	}
	if r.Total == 0 {
		return r, fmt.Errorf("%s: no tests in it", path)
	}
	r.Pass = r.Total - r.Fail - r.Skip - r.Disabled
	slices.Sort(r.Skips)
	return r, nil
}

// skipReason is the line after "…: skipping test:", else the last one.
func skipReason(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for i, line := range lines[:len(lines)-1] {
		if strings.HasSuffix(line, "skipping test:") {
			return strings.TrimSpace(lines[i+1])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
