package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const addressFile = "addresses.json"

// addresses are what the services listen on. The file that keeps them makes a restart on the same folder the same network: the
// ports are part of the hold's DID and of URLs in records.
type addresses struct {
	Registry string `json:"registry"`
	Hold     string `json:"hold"`
	PDS      string `json:"pds"`
	PLC      string `json:"plc"`
}

// listeners are the sandbox's own; directory and PDS open theirs.
type listeners struct {
	registry, hold net.Listener
}

func (l *listeners) close() {
	for _, ln := range []net.Listener{l.registry, l.hold} {
		if ln != nil {
			ln.Close()
		}
	}
}

// recall returns the addresses to listen on: those wanted, and where the port is 0, those of the first start on this folder.
func recall(dir string, want addresses) (addresses, error) {
	var kept addresses
	data, err := os.ReadFile(filepath.Join(dir, addressFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return addresses{}, err
	default:
		if err := json.Unmarshal(data, &kept); err != nil {
			return addresses{}, fmt.Errorf("%s: %w", filepath.Join(dir, addressFile), err)
		}
	}
	for _, one := range []struct {
		name, kept string
		want       *string
	}{
		{"registry", kept.Registry, &want.Registry}, {"hold", kept.Hold, &want.Hold}, {"pds", kept.PDS, &want.PDS},
		{"plc", kept.PLC, &want.PLC},
	} {
		if *one.want, err = choose(one.name, *one.want, one.kept); err != nil {
			return addresses{}, err
		}
	}
	return want, nil
}

// keep writes down what was found.
func keep(dir string, now addresses) error {
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, addressFile), append(data, '\n'), 0o600)
}

// listen opens the sandbox's own listeners, and tries the ports of the others, so that one error names all that are taken.
func listen(dir string, want addresses) (*listeners, error) {
	l := &listeners{}
	var errs []error
	var free []string
	try := func(flag, addr string) net.Listener {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			return ln
		}
		what := "the DID directory, which has no flag"
		if flag != "" {
			what = "--" + flag
			free = append(free, what+" 127.0.0.1:0")
		}
		errs = append(errs, fmt.Errorf("%s: %w", what, err))
		return nil
	}
	l.registry, l.hold = try("registry", want.Registry), try("hold", want.Hold)
	for _, ln := range []net.Listener{try("pds", want.PDS), try("", want.PLC)} {
		if ln != nil {
			ln.Close()
		}
	}
	if len(errs) == 0 {
		return l, nil
	}
	l.close()
	hint := "stop what listens there, or give other ports"
	if _, err := os.Stat(filepath.Join(dir, addressFile)); err == nil {
		hint = "stop what listens there (another sandbox on this folder?), or start on another folder (--data), as this one keeps its ports"
	}
	if len(free) > 0 {
		hint += "; port 0 picks a free one: " + strings.Join(free, " ")
	}
	return nil, fmt.Errorf("%w\n%s", errors.Join(errs...), hint)
}

// choose returns the address to listen on.
func choose(name, want, kept string) (string, error) {
	host, port, err := net.SplitHostPort(want)
	if err != nil {
		return "", fmt.Errorf("--%s %q: %w; give HOST:PORT", name, want, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("--%s %q: the sandbox listens on loopback only; give 127.0.0.1:PORT", name, want)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("--%s %q: no such port", name, want)
	}
	if port == "0" && kept != "" {
		return kept, nil
	}
	return want, nil
}
