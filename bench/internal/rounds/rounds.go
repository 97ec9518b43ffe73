// Package rounds is what the benches share: a disk at rest, the memory of processes, and a table of ratios. Rates of two runs
// can't be compared on a shared machine, so each round measures all sides one after the other; its ratio is what counts, and
// the table shows the median of the rounds with the range.
package rounds

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Row is one line of the table.
type Row struct {
	What   string
	To     string    // what the ratio is to
	Least  float64   // goal, where more is better; 0 is none
	Most   float64   // goal, where less is better; 0 is none
	Ratios []float64 // one for each round
	Ours   []float64 // what was measured, one for each round
	Unit   string
}

// Print writes the rows as a Markdown table.
func Print(w io.Writer, rows []Row) {
	fmt.Fprintln(w, "\n| work | ratio | goal | reached | | ours, median |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- |")
	for _, r := range rows {
		m := Median(r.Ratios)
		goal, verdict := "-", ""
		switch {
		case r.Least > 0:
			goal, verdict = fmt.Sprintf("at least %.2fx", r.Least), reached(m >= r.Least)
		case r.Most > 0:
			goal, verdict = fmt.Sprintf("at most %.2fx", r.Most), reached(m <= r.Most)
		}
		fmt.Fprintf(w, "| %s | to %s | %s | %.2fx (%.2f-%.2f) | %s | %s %s |\n",
			r.What, r.To, goal, m, slices.Min(r.Ratios), slices.Max(r.Ratios), verdict, figure(Median(r.Ours)), r.Unit)
	}
}

func reached(ok bool) string {
	if ok {
		return "ok"
	}
	return "**short**"
}

// figure has two digits at least.
func figure(v float64) string {
	if v >= 10 || v == 0 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// Machine is the line above a table.
func Machine(rounds int, seed uint64) string {
	return fmt.Sprintf("%s/%s, %d CPUs, %s; %d rounds, seed %d; ratios are medians of the rounds, the range in brackets",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), rounds, seed)
}

// Median of some figures; 0 of none.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Memory is what a process takes and the most it ever took, in KiB; zero where /proc does not say.
func Memory(pid int) (now, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "VmRSS:":
			now, _ = strconv.ParseInt(f[1], 10, 64)
		case "VmHWM:":
			peak, _ = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return now, peak
}

// MB of so many KiB.
func MB(kib int64) float64 { return float64(kib) * 1024 / 1e6 }
