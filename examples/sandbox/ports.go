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
)

// addresses are what the services listen on. The file that keeps them makes a restart on the same folder the same network: the
// ports are part of the hold's DID and of URLs in records.
type addresses struct {
	Registry string `json:"registry"`
	Hold     string `json:"hold"`
	PDS      string `json:"pds"`
	PLC      string `json:"plc"`
}

type listeners struct {
	registry, hold, pds, plc net.Listener
}

func (l *listeners) close() {
	for _, ln := range []net.Listener{l.registry, l.hold, l.pds, l.plc} {
		if ln != nil {
			ln.Close()
		}
	}
}

// listen opens all four. An address with port 0 takes what was found at the first start on this folder.
func listen(dir string, want addresses) (_ *listeners, err error) {
	file := filepath.Join(dir, "addresses.json")
	var kept addresses
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &kept); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	now := addresses{}
	for _, one := range []struct {
		name, want, kept string
		ln               *net.Listener
		now              *string
	}{
		{"registry", want.Registry, kept.Registry, &l.registry, &now.Registry},
		{"hold", want.Hold, kept.Hold, &l.hold, &now.Hold},
		{"pds", want.PDS, kept.PDS, &l.pds, &now.PDS},
		{"plc", want.PLC, kept.PLC, &l.plc, &now.PLC},
	} {
		addr, err := choose(one.name, one.want, one.kept)
		if err != nil {
			return nil, err
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w; stop what listens there, or start on another folder with another port", one.name, addr, err)
		}
		*one.ln, *one.now = ln, ln.Addr().String()
	}
	if now != kept {
		data, err := json.MarshalIndent(now, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// choose answers the address to listen on.
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
