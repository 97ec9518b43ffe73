package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// An event is one line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Output     string
	Elapsed    float64
}

// A report prints what people want to see of a run.
type report struct {
	start time.Time
	total int // packages

	mu       sync.Mutex
	out      io.Writer
	running  map[string]*testedPackage
	finished []finishedPackage
	counts   map[string]int // of tests, by their last action
	failed   []string       // tests and packages
}

// A testedPackage is one whose tests run.
type testedPackage struct {
	closing string // the line by which go test says how it ended
	lines   []line
	tests   map[string]time.Time // that run
	bad     map[string]bool      // that did not pass, with those above and the package itself ("")
}

type line struct{ test, text string }

type finishedPackage struct {
	name    string
	elapsed time.Duration
}

func newReport(out io.Writer, total int) *report {
	return &report{start: time.Now(), total: total, out: out, running: map[string]*testedPackage{}, counts: map[string]int{}}
}

// read takes the events of a run, to its end.
func (r *report) read(events io.Reader) {
	lines := bufio.NewReader(events)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			r.take(text)
		}
		if err != nil {
			return
		}
	}
}

func (r *report) take(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e event
	if json.Unmarshal([]byte(text), &e) != nil || e.Action == "" {
		fmt.Fprint(r.out, text)
		return
	}
	if e.Action == "build-output" {
		fmt.Fprint(r.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := r.running[e.Package]
	if p == nil {
		p = &testedPackage{tests: map[string]time.Time{}, bad: map[string]bool{"": true}}
		r.running[e.Package] = p
	}
	switch e.Action {
	case "run":
		p.tests[e.Test] = time.Now()
		p.bad[e.Test] = true // until it says otherwise: one that panics says nothing
	case "pause":
		delete(p.tests, e.Test)
	case "cont":
		p.tests[e.Test] = time.Now()
	case "output":
		p.output(e)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.end(e, p)
			return
		}
		r.counts[e.Action]++
		delete(p.tests, e.Test)
		if e.Action != "fail" {
			delete(p.bad, e.Test)
			p.lines = slices.DeleteFunc(p.lines, func(l line) bool { return l.test == e.Test })
			return
		}
		r.failed = append(r.failed, e.Package+" "+e.Test)
	}
}

func (p *testedPackage) output(e event) {
	if e.Test == "" && closing(e.Output, e.Package) {
		p.closing = e.Output
		return
	}
	for _, noise := range []string{"=== RUN", "=== PAUSE", "=== CONT", "=== NAME"} {
		if strings.HasPrefix(e.Output, noise) {
			return
		}
	}
	p.lines = append(p.lines, line{e.Test, e.Output})
}

// closing reports whether text is go test's last line of a package.
func closing(text, pkg string) bool {
	fields := strings.Fields(text)
	return len(fields) >= 2 && fields[1] == pkg && (fields[0] == "ok" || fields[0] == "FAIL" || fields[0] == "?") ||
		len(fields) > 0 && fields[0] == pkg // without tests, with coverage
}

// end prints a package that has ended.
func (r *report) end(e event, p *testedPackage) {
	delete(r.running, e.Package)
	elapsed := time.Duration(e.Elapsed * float64(time.Second))
	r.finished = append(r.finished, finishedPackage{e.Package, elapsed})
	if e.Action == "fail" {
		for _, l := range p.lines {
			if p.bad[l.test] {
				fmt.Fprint(r.out, l.text)
			}
		}
		r.failed = append(r.failed, e.Package)
		if p.closing == "" {
			p.closing = fmt.Sprintf("FAIL\t%s\t%.3fs\n", e.Package, e.Elapsed)
		}
	}
	fmt.Fprint(r.out, p.closing)
}

// tick prints how far it is until done is closed.
func (r *report) tick(done <-chan struct{}, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			r.mu.Lock()
			fmt.Fprintf(r.out, "# %s: %d of %d packages done%s\n", short(time.Since(r.start)), len(r.finished), r.total, r.now())
			r.mu.Unlock()
		}
	}
}

// now lists what runs: each package with the test that has run longest.
func (r *report) now() string {
	var texts []string
	for name, p := range r.running {
		var text string
		var since time.Time
		for test, began := range p.tests {
			if since.IsZero() || began.Before(since) || began.Equal(since) && test < text {
				text, since = test, began
			}
		}
		if since.IsZero() {
			continue // has not begun, or is about to end
		}
		texts = append(texts, fmt.Sprintf("%s %s %s", lastParts(name), text, short(time.Since(since))))
	}
	if texts == nil {
		return ""
	}
	slices.Sort(texts)
	return "; running " + strings.Join(texts, ", ")
}

// lastParts is an import path without the host and the names of the module.
func lastParts(pkg string) string {
	parts := strings.SplitN(pkg, "/", 4)
	return parts[len(parts)-1]
}

// summary prints the counts, the slowest packages and, last, what failed.
func (r *report) summary() {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.finished, func(a, b finishedPackage) int { return int(b.elapsed - a.elapsed) })
	fmt.Fprintln(r.out, "# slowest packages:")
	for _, p := range r.finished[:min(10, len(r.finished))] {
		fmt.Fprintf(r.out, "#   %7.1fs  %s\n", p.elapsed.Seconds(), p.name)
	}
	fmt.Fprintf(r.out, "# %d of %d packages, %d tests passed, %d skipped, %d failed, in %s\n",
		len(r.finished), r.total, r.counts["pass"], r.counts["skip"], r.counts["fail"], short(time.Since(r.start)))
	for _, f := range r.failed {
		fmt.Fprintf(r.out, "# failed: %s\n", f)
	}
}

func short(d time.Duration) string { return d.Round(time.Second).String() }
