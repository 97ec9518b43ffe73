package credhelper

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// HostAccounts are those of one host.
type HostAccounts struct {
	Host     string    `json:"host"`
	Active   string    `json:"active,omitempty"`
	Accounts []Account `json:"accounts"`
	Rules    []Rule    `json:"rules,omitempty"`
}

// Account is one that is signed in, without its secret.
type Account struct {
	Name    string    `json:"name"`
	DID     string    `json:"did,omitempty"`
	Device  string    `json:"device,omitempty"` // as the registry lists it; "" for what docker login stored
	Keyring bool      `json:"keyring"`
	Since   time.Time `json:"since"`
}

// Rule says which account is used for repositories of a host.
type Rule struct {
	Repository string `json:"repository"`
	Account    string `json:"account"`
}

// Accounts lists what is kept, hosts and accounts by name.
func (h *Helper) Accounts() ([]HostAccounts, error) {
	s, err := h.read()
	if err != nil {
		return nil, err
	}
	out := []HostAccounts{}
	for _, host := range slices.Sorted(maps.Keys(s.Hosts)) {
		at := s.Hosts[host]
		one := HostAccounts{Host: host, Active: at.Active, Accounts: []Account{}}
		for _, name := range slices.Sorted(maps.Keys(at.Accounts)) {
			a := at.Accounts[name]
			one.Accounts = append(one.Accounts, Account{name, a.DID, a.Device, a.Keyring, a.Since})
		}
		for _, r := range at.Rules {
			one.Rules = append(one.Rules, Rule(r))
		}
		out = append(out, one)
	}
	return out, nil
}

// File is where accounts are kept.
func (h *Helper) File() string { return h.file }

// Forget removes an account and its secret; the host has no account in use then, if it was this one.
func (h *Helper) Forget(host, name string) error {
	return h.change(func(s *state) error {
		at := s.Hosts[host]
		if at == nil || at.Accounts[name] == nil {
			return nil
		}
		if at.Accounts[name].Keyring {
			if err := h.keyringDelete(host, name); err != nil {
				h.Note(fmt.Sprintf("the secret of %s is forgotten here, but still in the keyring (%s)", name, plain(err.Error())))
			}
		}
		delete(at.Accounts, name)
		if at.Active == name {
			at.Active = ""
		}
		return nil
	})
}

// Find returns the name that an account of a host is kept by: "" is the one in use. Errors say what there is.
func (h *Helper) Find(host, name string) (string, error) {
	s, err := h.read()
	if err != nil {
		return "", err
	}
	return s.find(host, name)
}

func (s *state) find(host, name string) (string, error) {
	at := s.Hosts[host]
	if at == nil || len(at.Accounts) == 0 {
		return "", fmt.Errorf("no account is signed in at %s: docker-credential-atcr login %s", host, host)
	}
	have := strings.Join(slices.Sorted(maps.Keys(at.Accounts)), ", ")
	if name == "" {
		if at.Accounts[at.Active] == nil {
			return "", fmt.Errorf("no account of %s is in use; signed in are: %s", host, have)
		}
		return at.Active, nil
	}
	name, err := accountName(name)
	if err != nil {
		return "", err
	}
	if found := at.find(name); found != "" {
		return found, nil
	}
	return "", fmt.Errorf("%s is not signed in at %s; signed in are: %s", name, host, have)
}

// Switch puts an account in use, and returns its name. Without a name it is the other one of two.
func (h *Helper) Switch(host, name string) (used string, err error) {
	err = h.change(func(s *state) error {
		if name == "" {
			if name, err = s.other(host); err != nil {
				return err
			}
		}
		if used, err = s.find(host, name); err != nil {
			return err
		}
		s.Hosts[host].Active = used
		return nil
	})
	return used, err
}

// other is the one account of a host that is not in use.
func (s *state) other(host string) (string, error) {
	if _, err := s.find(host, ""); err != nil && s.Hosts[host] == nil {
		return "", err
	}
	at := s.Hosts[host]
	var others []string
	for name := range at.Accounts {
		if name != at.Active {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	switch len(others) {
	case 0:
		return "", fmt.Errorf("%s is the only account at %s", at.Active, host)
	case 1:
		return others[0], nil
	}
	return "", fmt.Errorf("several accounts are signed in at %s: name one of %s", host, strings.Join(others, ", "))
}

// SetRule has an account used for repositories of a host that fit a pattern, as in acme.example.com/*; without a name the rule goes.
// An older rule for the same pattern is replaced, and a new one comes first, so that it wins.
func (h *Helper) SetRule(host, pattern, name string) (used string, err error) {
	pattern = strings.ToLower(strings.Trim(pattern, "/"))
	if pattern == "" || len(pattern) > maxServer || strings.Trim(pattern, "abcdefghijklmnopqrstuvwxyz0123456789._-/*") != "" {
		return "", fmt.Errorf("%.80q is no pattern of repositories: write it as in acme.example.com/*", pattern)
	}
	err = h.change(func(s *state) error {
		if name != "" {
			if used, err = s.find(host, name); err != nil {
				return err
			}
		}
		at := s.Hosts[host]
		if at == nil {
			return fmt.Errorf("there is no rule for %s at %s", pattern, host)
		}
		before := len(at.Rules)
		at.Rules = slices.DeleteFunc(at.Rules, func(r rule) bool { return r.Repository == pattern })
		if name == "" && before == len(at.Rules) {
			return fmt.Errorf("there is no rule for %s at %s", pattern, host)
		}
		if name != "" {
			at.Rules = slices.Insert(at.Rules, 0, rule{pattern, used})
		}
		return nil
	})
	return used, err
}

// ErrWhichHost: no host was named, and not exactly one is known.
var ErrWhichHost = errors.New("which registry?")

// OneHost returns the host that is meant: the one named, else that of ATCR_HOST, else the only one that is known: signed in at, or
// among more (those that docker asks this helper for). Errors: [ErrWhichHost].
func (h *Helper) OneHost(named string, more ...string) (string, error) {
	if named != "" {
		host, _, err := splitServer(named)
		return host, err
	}
	if h.Host != "" {
		return h.Host, nil
	}
	s, err := h.read()
	if err != nil {
		return "", err
	}
	known := slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(slices.Clone(more), maps.Keys(s.Hosts)))))
	switch len(known) {
	case 0:
		return "", fmt.Errorf("%w Name its host, as in registry.example.com", ErrWhichHost)
	case 1:
		return known[0], nil
	}
	return "", fmt.Errorf("%w Name one of %s", ErrWhichHost, strings.Join(known, ", "))
}
