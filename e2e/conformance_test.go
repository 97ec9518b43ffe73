package e2e

import (
	"path"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// conformance runs the OCI suite: nothing fails. What it skips is in the log.
func conformance(t *testing.T, s *stack, set map[string]string) {
	t.Helper()
	r := realtest.Conformance(t, realtest.ConformanceOptions{
		Login: s.Login, Repository1: s.name("conformance/one"), Repository2: s.name("conformance/two"), Set: set,
	})
	t.Log(r)
	for what, n := range group(r.Skips) {
		t.Logf("skipped %d times %s", n, what)
	}
	for i, failure := range r.Failures {
		if i < 10 {
			t.Error(failure)
		}
	}
	if r.Fail != 0 || r.Pass < 500 {
		t.Errorf("%s; want no failure and at least 500 passes", r)
	}
}

// group counts skips that are alike: "data set/test/call: why" by call and why.
func group(skips []string) map[string]int {
	alike := map[string]int{}
	for _, skip := range skips {
		name, why, _ := strings.Cut(skip, ": ")
		alike[path.Base(name)+": "+why]++
	}
	return alike
}

func TestConformanceEmbedRegistry(t *testing.T) {
	t.Parallel()
	conformance(t, embedRegistry(t), nil)
}

func TestConformanceSandbox(t *testing.T) {
	t.Parallel()
	s, _ := sandbox(t, t.TempDir())
	conformance(t, s, nil)
}

// The same with the reference PDS behind the AppView.
func TestConformanceServices(t *testing.T) {
	t.Parallel()
	realtest.Long(t, "the conformance suite on the reference PDS")
	conformance(t, startServices(t, servicesOptions{}).stack, nil)
}
