package cli

import (
	"io"
	"os"
	"testing"
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
