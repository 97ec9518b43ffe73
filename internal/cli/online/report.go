package online

import (
	"fmt"
	"strings"

	"github.com/atcr-dev/atcr/internal/cli"
)

// Report is what `config check` prints.
type Report struct {
	Good     bool      `json:"good"`
	Errors   []string  `json:"errors"`
	Warnings []string  `json:"warnings"`
	DID      string    `json:"did,omitempty"` // of the hold; empty for one that is made at the first start
	Online   []Finding `json:"online,omitempty"`
}

// Failed adds errors, each of their lines on its own.
func (r *Report) Failed(err error) {
	if err != nil {
		r.Errors = append(r.Errors, strings.Split(err.Error(), "\n")...)
	}
}

// Print prints the report, with good as its last line when nothing is wrong. Otherwise the error is cli.ErrPrinted, or says how many faults
// there are.
func (r *Report) Print(std *cli.IO, flag cli.JSONFlag, c *Checker, good string) error {
	faults := 0
	if c != nil {
		r.Online, faults = c.Findings, c.Faults()
	}
	r.Good = len(r.Errors) == 0 && faults == 0
	if flag.JSON {
		r.Errors, r.Warnings = append([]string{}, r.Errors...), append([]string{}, r.Warnings...)
		if err := cli.PrintJSON(std.Out, r); err != nil || r.Good {
			return err
		}
		return cli.ErrPrinted
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(std.Out, "warning:", w)
	}
	if c != nil {
		if err := c.Print(std.Out); err != nil {
			return err
		}
	}
	switch {
	case len(r.Errors) > 0:
		return fmt.Errorf("%s", strings.Join(r.Errors, "\n"))
	case faults > 0:
		return fmt.Errorf("%d of the %d things that the configuration names can't be used as they are", faults, len(r.Online))
	}
	_, err := fmt.Fprintln(std.Out, good)
	return err
}
