package credhelper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxInput is the most that a client sends: one credential as JSON.
const maxInput = 1 << 20

// Serve does what docker's protocol has one of the verbs get, store, erase and list do: it reads in and writes what comes out of it.
// An error is also written to both out and errs, since some clients show the one and some the other, but for [ErrNotFound], which is no
// news: it is written to out alone, where clients look for it.
func (h *Helper) Serve(verb string, in io.Reader, out, errs io.Writer) error {
	err := h.serve(verb, in, out)
	if err == nil {
		return nil
	}
	fmt.Fprintln(out, err)
	if !errors.Is(err, ErrNotFound) {
		fmt.Fprintf(errs, "%s: %v\n", ClientID, err)
	}
	return err
}

func (h *Helper) serve(verb string, in io.Reader, out io.Writer) error {
	if verb == "list" {
		servers, err := h.List()
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(servers)
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	if len(raw) > maxInput {
		return fmt.Errorf("standard input has more than %d bytes", maxInput)
	}
	server := strings.TrimSpace(string(raw))
	switch verb {
	case "store":
		var c Credential
		if err := json.Unmarshal(raw, &c); err != nil {
			return fmt.Errorf("standard input is no credential as JSON: %w", withoutInput(err))
		}
		return h.Store(c)
	case "get":
		if server == "" {
			return errNoServer
		}
		c, err := h.Get(server)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		return enc.Encode(c)
	case "erase":
		return h.Erase(server)
	}
	return fmt.Errorf("unknown verb %q: get, store, erase or list", verb)
}

// withoutInput drops what an error of JSON might show of a secret.
func withoutInput(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("syntax error after %d bytes", syntax.Offset)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s is a %s, not a text", kind.Field, kind.Value)
	}
	return err
}
