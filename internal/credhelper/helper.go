package credhelper

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrNotFound: there is no secret for a host. docker, podman, skopeo and crane know it by these very words, and go on anonymously.
var ErrNotFound = errors.New("credentials not found in native keychain")

// Credential is one secret, in the form of docker's protocol.
type Credential struct {
	ServerURL string
	Username  string // [tokenUser] where Secret is an identity token
	Secret    string
}

// tokenUser is docker's user name for a token that it was given in place of a password.
const tokenUser = "<token>"

// Config says where a Helper keeps its secrets, and what chooses among them.
type Config struct {
	Dir     string // folder of credentials.json, made when missing; "" keeps nothing and finds nothing
	Keyring Keyring
	// KeyringLimit is how long a keyring may take to answer; 2 seconds when 0.
	KeyringLimit time.Duration

	Token   string // ATCR_TOKEN
	Account string // ATCR_ACCOUNT
	Host    string // ATCR_HOST

	// Hosts returns the hosts that clients' configurations have this program asked for, and whether one has it asked for every host. nil:
	// unknown.
	Hosts func() (named []string, every bool)
	// Command returns the arguments of the program that asks; nil when unknown. Rules find the repository there.
	Command func() []string
	// Note is told what a person should know though nothing failed; nil drops it.
	Note func(text string)
	Now  func() time.Time // nil is time.Now
}

// FromEnvironment returns the configuration that docker-credential-atcr has in an environment of NAME=value, with the system's keyring.
func FromEnvironment(environ []string) Config {
	env := environment(environ)
	c := Config{
		Token: strings.TrimSpace(env("ATCR_TOKEN")), Account: strings.TrimSpace(env("ATCR_ACCOUNT")), Host: env("ATCR_HOST"),
		Dir: env("ATCR_HELPER_DIR"), Command: callersCommand, Keyring: SystemKeyring(env),
		Hosts: func() ([]string, bool) { return askedHosts(environ) },
	}
	if c.Dir == "" {
		if dir, err := os.UserConfigDir(); err == nil {
			c.Dir = filepath.Join(dir, "atcr")
		}
	}
	return c
}

// environment returns a look-up of variables.
func environment(environ []string) func(name string) string {
	return func(name string) string {
		for _, e := range environ {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// Helper keeps and chooses secrets. It may be used by several goroutines, and several processes may have one on the same folder.
type Helper struct {
	Config
	file string
}

// New checks the configuration. Nothing is opened or made before it is needed.
func New(c Config) (*Helper, error) {
	if c.Host != "" {
		host, _, err := splitServer(c.Host)
		if err != nil {
			return nil, fmt.Errorf("ATCR_HOST %q: %w", c.Host, err)
		}
		c.Host = host
	}
	if err := checkToken(c.Token, c.Account); err != nil {
		return nil, err
	}
	if c.Account != "" {
		name, err := accountName(c.Account)
		if err != nil {
			return nil, fmt.Errorf("ATCR_ACCOUNT: %w", err)
		}
		c.Account = name
	}
	if c.KeyringLimit == 0 {
		c.KeyringLimit = 2 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Note == nil {
		c.Note = func(string) {}
	}
	h := &Helper{Config: c}
	if c.Dir != "" {
		h.file = filepath.Join(c.Dir, "credentials.json")
	}
	return h, nil
}

// checkToken refuses what can't be a secret of ours, never showing it.
func checkToken(token, account string) error {
	if token == "" {
		return nil
	}
	if err := checkSecret(token); err != nil {
		return fmt.Errorf("ATCR_TOKEN: %w", err)
	}
	if account == "" && !strings.HasPrefix(token, "atcr_") {
		return errors.New("ATCR_TOKEN: robots' and devices' secrets begin with atcr_; for an app password set ATCR_ACCOUNT, too")
	}
	return nil
}

// Get returns the secret for a server: a host, a URL, or one of these with a repository behind it. Errors: [ErrNotFound]; others say
// what is wrong with the file or the keyring.
func (h *Helper) Get(server string) (*Credential, error) {
	host, repository, err := splitServer(server)
	if err != nil {
		return nil, ErrNotFound // such a host has nothing here
	}
	if h.Token != "" && h.tokenIsFor(host) {
		user := h.Account
		if user == "" {
			user = "token" // registries don't look at it, clients want one
		}
		return &Credential{ServerURL: server, Username: user, Secret: h.Token}, nil
	}
	s, err := h.read()
	if err != nil {
		return nil, err
	}
	name, kept, err := h.choose(s, host, repository)
	if err != nil {
		return nil, err
	}
	secret := kept.Secret
	if kept.Keyring {
		if secret, err = h.keyringGet(host, name); err != nil {
			return nil, err
		}
	}
	return &Credential{ServerURL: server, Username: kept.username(name), Secret: secret}, nil
}

// tokenIsFor reports whether a host gets ATCR_TOKEN: that of ATCR_HOST, or without one any that somebody had this program asked for. Who
// has it asked for every host must not send a registry's secret to all of them, nor to docker's hub.
func (h *Helper) tokenIsFor(host string) bool {
	if h.Host != "" {
		return host == h.Host
	}
	if host == "docker.io" || strings.HasSuffix(host, ".docker.io") {
		return false
	}
	if h.Hosts == nil {
		return true
	}
	named, every := h.Hosts()
	if every && !slices.Contains(named, host) {
		h.Note(fmt.Sprintf("ATCR_TOKEN is not given to %s, since every host would get it (credsStore): set ATCR_HOST to the one it is for",
			host))
		return false
	}
	return true
}

// choose returns the account of a host that is to be used.
func (h *Helper) choose(s *state, host, repository string) (string, *account, error) {
	at := s.Hosts[host]
	if at == nil {
		return "", nil, ErrNotFound
	}
	if h.Account != "" {
		name := at.find(h.Account)
		if name == "" {
			h.Note(fmt.Sprintf("ATCR_ACCOUNT is %s, which is not signed in at %s: going on without sign-in", h.Account, host))
			return "", nil, ErrNotFound
		}
		return name, at.Accounts[name], nil
	}
	if len(at.Rules) > 0 {
		if r := at.ruleFor(repository, host, h.Command); r != nil {
			name := at.find(r.Account)
			if name == "" {
				h.Note(fmt.Sprintf("the rule for %s names %s, which is not signed in at %s: going on without sign-in",
					r.Repository, r.Account, host))
				return "", nil, ErrNotFound
			}
			return name, at.Accounts[name], nil
		}
	}
	kept := at.Accounts[at.Active]
	if kept == nil {
		return "", nil, ErrNotFound
	}
	return at.Active, kept, nil
}

// Store keeps what docker signed in with, beside the other accounts of the host, and puts it in use.
func (h *Helper) Store(c Credential) error {
	_, err := h.keep(c, account{})
	return err
}

// Kept says where a secret went.
type Kept struct {
	Host, Account string
	Keyring       bool
	File          string // where the secret lies, or in the keyring's case what names it
}

// Prepare makes sure that secrets can be kept, so that nobody approves a device in vain.
func (h *Helper) Prepare() error {
	return h.change(func(*state) error { return nil })
}

// KeepDevice keeps what [SignIn] returned, and puts it in use.
func (h *Helper) KeepDevice(host string, d *Device) (*Kept, error) {
	return h.keep(Credential{ServerURL: host, Username: d.Handle, Secret: d.Secret}, account{DID: d.DID, Device: d.Name})
}

func (h *Helper) keep(c Credential, a account) (*Kept, error) {
	host, _, err := splitServer(c.ServerURL)
	if err != nil {
		return nil, err
	}
	user := c.Username
	if a.Token = user == tokenUser; a.Token && h.Command != nil {
		user = cmp.Or(userIn(h.Command()), user) // docker keeps to itself whose token it is
	}
	name, err := accountName(user)
	if err != nil {
		return nil, err
	}
	if err := checkSecret(c.Secret); err != nil {
		return nil, err
	}
	kept := &Kept{Host: host, Account: name, File: h.file}
	err = h.change(func(s *state) error {
		why := h.keyringSet(host, name, c.Secret)
		a.Since = h.Now().UTC().Truncate(time.Second)
		if a.Keyring = why == nil; !a.Keyring {
			a.Secret = c.Secret
		}
		at := s.Hosts[host]
		if at == nil {
			at = &hostState{Accounts: map[string]*account{}}
			s.Hosts[host] = at
		}
		at.Accounts[name], at.Active = &a, name
		if !a.Keyring && !s.SaidFile {
			s.SaidFile = true
			h.Note(fmt.Sprintf("%s: secrets lie in %s, which only you can read", why, h.file))
		}
		return nil
	})
	kept.Keyring = a.Keyring
	return kept, err
}

// Erase forgets what [Helper.Get] would return of the file for a server; the host has no account in use then. That there was none is no
// error.
func (h *Helper) Erase(server string) error {
	host, repository, err := splitServer(server)
	if err != nil {
		return err
	}
	s, err := h.read()
	if err != nil {
		return err
	}
	name, _, err := h.choose(s, host, repository)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.Forget(host, name)
}

// List returns the user name in use of each server.
func (h *Helper) List() (map[string]string, error) {
	s, err := h.read()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for host := range s.Hosts {
		if name, kept, err := h.choose(s, host, ""); err == nil {
			out[host] = kept.username(name)
		}
	}
	if h.Token != "" && h.Host != "" {
		out[h.Host] = h.Account
		if h.Account == "" {
			out[h.Host] = "token"
		}
	}
	return out, nil
}
