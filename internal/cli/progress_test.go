package cli

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// Standard error that is thrown away is no terminal: nothing is drawn, and nothing is counted for it.
func TestNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, w := range map[string]io.Writer{"the null device": null, "no file": io.Discard} {
		p := (&IO{Err: w}).Progress()
		if p.Shown() {
			t.Errorf("%s: progress is shown", name)
		}
		p.Done(nil)
	}
}

// A line has what is known, and fits the terminal: a long name gives way first.
func TestProgressLine(t *testing.T) {
	count := func(n float64) string { return strings.TrimSuffix(inBytes(n), ".0 B") }
	for _, c := range []struct {
		p     *Progress
		width int
		whole bool
		want  string
	}{
		{&Progress{what: "records", done: 20, total: 80, unit: count}, 99, false,
			"records [=======>                    ] 20 of 80  10/s  6s left"},
		{&Progress{what: "records", done: 80, total: 80, unit: count}, 99, false,
			"records [" + strings.Repeat("=", 28) + "] 80 of 80  40/s  done"},
		{&Progress{what: "records", done: 20, unit: count}, 99, false, "records  20  10/s"},
		{&Progress{what: "records", total: 80, unit: count}, 99, false, "records [>" + strings.Repeat(" ", 27) + "] 0 of 80  0/s"},
		{&Progress{what: "read", done: 3 << 20, total: 4 << 30, unit: inBytes}, 99, false,
			"read [>" + strings.Repeat(" ", 27) + "] 3.0 MiB of 4.0 GiB  1.5 MiB/s  45m29s left"},
		{&Progress{what: "read /some/where/else/big.car", done: 20, unit: count}, 24, false, "read …/big.car  20  10/s"},
		{&Progress{what: "read /some/where/else/big.car", done: 20, total: 80, unit: count}, 70, false,
			"read /some/where/else/big.car [===>          ] 20 of 80  10/s  6s left"},
		{&Progress{what: "records", done: 20, total: 80, unit: count}, 10, false, "… [==>    "},
		{&Progress{what: "records", done: 20, total: 80, unit: count}, 0, false, ""},
	} {
		if got := c.p.line(2*time.Second, c.width, c.whole); got != c.want {
			t.Errorf("%d columns: %q, want %q", c.width, got, c.want)
		}
	}
}
