package rounds

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// Run is one run of a bench: a folder, chance, and what has been measured so far. Not safe for concurrent use.
type Run struct {
	Options
	Folder string // removed by End
	Rand   *rand.Rand

	rows  []*Row // in the order in which they were first measured
	peaks []*peak
	undo  []func() error
}

// peak is the most memory that one kind of work ever took.
type peak struct {
	what  string
	limit float64 // MB; 0 is none
	kib   int64
}

// Start makes the folder. End the run.
func Start(o Options) (*Run, error) {
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	dir, err := os.MkdirTemp(o.Dir, "atcr-bench-*")
	if err != nil {
		return nil, err
	}
	return &Run{Options: o, Folder: dir, Rand: rand.New(rand.NewPCG(o.Seed, 0))}, nil
}

// OnEnd has f called by End, the last one first.
func (r *Run) OnEnd(f func() error) { r.undo = append(r.undo, f) }

// End undoes what was started and removes the folder.
func (r *Run) End() error {
	var err error
	for _, f := range slices.Backward(r.undo) {
		err = errors.Join(err, f())
	}
	return errors.Join(err, os.RemoveAll(r.Folder))
}

// Scale is an amount of work: that part of n under -quick, at least 1.
func (r *Run) Scale(n, part int) int {
	if r.Quick {
		return max(1, n/part)
	}
	return n
}

// Faster notes a round of a row whose goal is to be so many times as fast: times of ours and theirs.
func (r *Run) Faster(row Row, ours, theirs float64) { r.Note(row, theirs/ours, ours) }

// Within notes a round of a row whose goal is not to take more than so many times as long.
func (r *Run) Within(row Row, ours, theirs float64) { r.Note(row, ours/theirs, ours) }

// Note notes a round of a row: the ratio, and what ours measured.
func (r *Run) Note(row Row, ratio, ours float64) {
	i := slices.IndexFunc(r.rows, func(o *Row) bool { return o.What == row.What && o.To == row.To })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row)
	}
	to := r.rows[i]
	to.Ratios, to.Ours = append(to.Ratios, ratio), append(to.Ours, ours)
	fmt.Fprintf(os.Stderr, "  %s: %.3g %s, %.2fx to %s\n", to.What, ours, to.Unit, ratio, to.To)
}

// Memory notes what a process took at most, in KiB; limit is in MB, 0 for none.
func (r *Run) Memory(what string, limit float64, kib int64) {
	i := slices.IndexFunc(r.peaks, func(p *peak) bool { return p.what == what })
	if i < 0 {
		i = len(r.peaks)
		r.peaks = append(r.peaks, &peak{what: what, limit: limit})
	}
	r.peaks[i].kib = max(r.peaks[i].kib, kib)
}

// Print writes the tables; more, which may be nil, writes below them.
func (r *Run) Print(out io.Writer, more func(io.Writer)) error {
	w := &strings.Builder{}
	fmt.Fprintln(w, Machine(r.Rounds, r.Seed))
	if r.Quick {
		fmt.Fprintln(w, "\n**-quick: these figures mean nothing**")
	}
	rows := make([]Row, 0, len(r.rows))
	for _, row := range r.rows {
		rows = append(rows, *row)
	}
	Print(w, rows)
	if len(r.peaks) > 0 {
		fmt.Fprintln(w, "\n| memory of a process (resident, most of all rounds) | at most | reached | |")
		fmt.Fprintln(w, "| --- | --- | --- | --- |")
	}
	for _, p := range r.peaks {
		limit, verdict := "-", ""
		if p.limit > 0 {
			limit, verdict = fmt.Sprintf("%.0f MB", p.limit), reached(MB(p.kib) <= p.limit)
		}
		fmt.Fprintf(w, "| %s | %s | %.0f MB | %s |\n", p.what, limit, MB(p.kib), verdict)
	}
	if more != nil {
		more(w)
	}
	_, err := io.WriteString(out, w.String())
	return err
}
