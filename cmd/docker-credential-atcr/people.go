package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/credhelper"
)

type loginCommand struct {
	Host        string `arg:"" optional:"" help:"${host}"`
	Name        string `help:"What the registry calls this device in its list; this machine's name otherwise." placeholder:"TEXT"`
	NoConfigure bool   `help:"Leave docker's configuration as it is."`
}

func (c *loginCommand) Run(ctx context.Context, std *cli.IO) error {
	h, err := helper(std)
	if err != nil {
		return err
	}
	host, err := oneHost(h, std, c.Host)
	if err != nil {
		return err
	}
	if err := h.Prepare(); err != nil {
		return err
	}
	device, err := credhelper.SignIn(ctx, credhelper.SignInOptions{Host: host, Name: c.Name}, func(p credhelper.Prompt) {
		prompt(std.Err, p)
	})
	if err != nil {
		return err
	}
	kept, err := h.KeepDevice(host, device)
	if err != nil {
		return err
	}
	where := kept.File
	if kept.Keyring {
		where = "the keyring"
	}
	fmt.Fprintf(std.Out, "Signed in to %s as %s.\nThe secret of this device (%s) is in %s.\n", host, kept.Account, device.Name, where)
	if !c.NoConfigure {
		if err := configure(std, host, false, false); err != nil {
			fmt.Fprintf(std.Err, "%s: docker is not configured: %v\n", credhelper.ClientID, err)
		}
	}
	remarks(std, host)
	return nil
}

// prompt says what to do in the browser.
func prompt(w io.Writer, p credhelper.Prompt) {
	fmt.Fprintf(w, "Open this page in a browser, on any device:\n\n    %s\n\n", p.URL)
	if p.Complete {
		fmt.Fprintf(w, "It has to show this code:\n\n    %s\n\n", p.Code)
	} else {
		fmt.Fprintf(w, "and type this code there:\n\n    %s\n\n", p.Code)
	}
	limit := p.Expires.Round(time.Second).String()
	if minutes := int(p.Expires / time.Minute); minutes > 1 {
		limit = fmt.Sprintf("%d minutes", minutes)
	}
	fmt.Fprintf(w, "Waiting for approval, for %s at most (Ctrl-C gives up) …\n", limit)
}

type logoutCommand struct {
	Host    string `arg:"" optional:"" help:"${host}"`
	Account string `help:"Account to forget; the one in use otherwise." placeholder:"HANDLE"`
	All     bool   `help:"Forget all accounts of the registry."`
}

func (c *logoutCommand) Run(std *cli.IO) error {
	h, err := helper(std)
	if err != nil {
		return err
	}
	host, err := oneHost(h, std, c.Host)
	if err != nil {
		return err
	}
	if c.All && c.Account != "" {
		return cli.Usagef("--all and --account exclude each other")
	}
	at, err := accountsAt(h, host)
	if err != nil {
		return err
	}
	names := []string{}
	for _, a := range at.Accounts {
		names = append(names, a.Name)
	}
	if !c.All {
		one, err := h.Find(host, c.Account)
		if err != nil {
			return err
		}
		names = []string{one}
	}
	if len(names) == 0 {
		_, err := h.Find(host, "") // says that nobody is signed in
		return err
	}
	for _, name := range names {
		if err := h.Forget(host, name); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Signed out of %s: the secret of %s is forgotten here.\n", host, name)
	}
	for _, a := range at.Accounts {
		if a.Device != "" && slices.Contains(names, a.Name) {
			fmt.Fprintf(std.Out, "The registry still lists the device %s: end it at %s\n", a.Device, settingsPage(host))
		}
	}
	var rest []string
	for _, a := range at.Accounts {
		if !slices.Contains(names, a.Name) {
			rest = append(rest, a.Name)
		}
	}
	if len(rest) > 0 && slices.Contains(names, at.Active) {
		fmt.Fprintf(std.Out, "No account of %s is in use now; signed in are: %s (docker-credential-atcr switch HANDLE)\n", host,
			strings.Join(rest, ", "))
	}
	return nil
}

// settingsPage is where a registry lists devices.
func settingsPage(host string) string {
	scheme := "https://"
	if credhelper.Loopback(host) {
		scheme = "http://"
	}
	return scheme + host + "/settings/access"
}

func accountsAt(h *credhelper.Helper, host string) (*credhelper.HostAccounts, error) {
	all, err := h.Accounts()
	if err != nil {
		return nil, err
	}
	for _, at := range all {
		if at.Host == host {
			return &at, nil
		}
	}
	return &credhelper.HostAccounts{Host: host}, nil
}

type statusCommand struct {
	cli.JSONFlag
}

// status is what the verb prints as JSON.
type status struct {
	File       string                    `json:"file"`
	Token      bool                      `json:"token"`             // ATCR_TOKEN is set
	Host       string                    `json:"host,omitempty"`    // ATCR_HOST
	Account    string                    `json:"account,omitempty"` // ATCR_ACCOUNT
	Hosts      []credhelper.HostAccounts `json:"hosts"`
	Configured map[string][]string       `json:"configured"` // by file of a client, the hosts that it asks this program for
}

func (c *statusCommand) Run(std *cli.IO) error {
	h, err := helper(std)
	if err != nil {
		return err
	}
	s := status{File: h.File(), Token: h.Token != "", Host: h.Host, Account: h.Account}
	if s.Hosts, err = h.Accounts(); err != nil {
		return err
	}
	if s.Configured, err = configured(std); err != nil {
		fmt.Fprintf(std.Err, "%s: %v\n", credhelper.ClientID, err)
	}
	return c.Print(std, s, func() error { return s.print(std.Out) })
}

func (s *status) print(w io.Writer) error {
	if s.Token {
		where := "every registry"
		if s.Host != "" {
			where = s.Host
		}
		fmt.Fprintf(w, "ATCR_TOKEN is set: clients get it for %s, whoever is signed in.\n", where)
	}
	if s.Account != "" && !s.Token {
		fmt.Fprintf(w, "ATCR_ACCOUNT is set: %s is used, whoever else is signed in.\n", s.Account)
	}
	shown := map[string]bool{}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, at := range s.Hosts {
		shown[at.Host] = true
		fmt.Fprintf(table, "%s\n", at.Host)
		if !s.asked(at.Host) {
			fmt.Fprintf(table, "  clients don't ask for it: docker-credential-atcr configure-docker %s\n", at.Host)
		}
		for _, a := range at.Accounts {
			mark, what, where := " ", "by docker login", "in the file"
			if a.Name == at.Active {
				mark = "*"
			}
			if a.Device != "" {
				what = "device " + a.Device
			}
			if a.Keyring {
				where = "in the keyring"
			}
			fmt.Fprintf(table, "%s %s\t%s\t%s\tsince %s\n", mark, shownName(a.Name), what, where, a.Since.Local().Format("2006-01-02"))
		}
		for _, r := range at.Rules {
			fmt.Fprintf(table, "  for %s\t%s\n", r.Repository, r.Account)
		}
	}
	for _, hosts := range s.Configured {
		for _, host := range hosts {
			if !shown[host] {
				shown[host] = true
				fmt.Fprintf(table, "%s\n  nobody is signed in: docker-credential-atcr login %s\n", host, host)
			}
		}
	}
	if len(shown) == 0 {
		fmt.Fprintln(table, "Nobody is signed in anywhere: docker-credential-atcr login HOST")
	}
	return table.Flush()
}

// shownName is an account's name for people: docker has one of its own for what it was given a token for.
func shownName(name string) string {
	if name == "<token>" {
		return "(no name: a token)"
	}
	return name
}

func (s *status) asked(host string) bool {
	for _, hosts := range s.Configured {
		if slices.Contains(hosts, host) {
			return true
		}
	}
	return false
}

type switchCommand struct {
	Account string `arg:"" optional:"" help:"Handle or DID; the other one of two when left out."`
	Host    string `help:"${host}" placeholder:"HOST"`
	For     string `help:"Use the account for these repositories alone, as acme.example.com/*" placeholder:"PATTERN"`
	Forget  string `help:"Drop the rule for these repositories." placeholder:"PATTERN"`
}

func (c *switchCommand) Run(std *cli.IO) error {
	h, err := helper(std)
	if err != nil {
		return err
	}
	host, err := oneHost(h, std, c.Host)
	if err != nil {
		return err
	}
	switch {
	case c.Forget != "" && (c.For != "" || c.Account != ""):
		return cli.Usagef("--forget takes neither an account nor --for")
	case c.For != "" && c.Account == "":
		return cli.Usagef("--for needs an account")
	case c.Forget != "":
		if _, err := h.SetRule(host, c.Forget, ""); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "There is no rule for %s at %s any more.\n", c.Forget, host)
	case c.For != "":
		used, err := h.SetRule(host, c.For, c.Account)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s is used for %s/%s.\n", used, host, strings.ToLower(c.For))
	default:
		used, err := h.Switch(host, c.Account)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "%s is in use at %s.\n", used, host)
	}
	return nil
}

type configureCommand struct {
	Host  string `arg:"" optional:"" help:"${host}"`
	Undo  bool   `help:"Have them ask it no longer."`
	Force bool   `help:"Also where another credential helper is configured for the registry."`
}

func (c *configureCommand) Run(std *cli.IO) error {
	h, err := helper(std)
	if err != nil {
		return err
	}
	host, err := oneHost(h, std, c.Host)
	if err != nil {
		return err
	}
	if err := configure(std, host, c.Undo, c.Force); err != nil {
		return err
	}
	if !c.Undo {
		remarks(std, host)
	}
	return nil
}

// configure sets the host in clients' configurations, and says what became of each.
func configure(std *cli.IO, host string, undo, force bool) error {
	files, err := credhelper.ConfigFiles(std.Environ)
	if err != nil {
		return err
	}
	for _, file := range files {
		changed, err := credhelper.Configure(file, host, undo, force)
		switch {
		case errors.Is(err, credhelper.ErrOtherHelper) && !undo:
			return fmt.Errorf("%w: docker-credential-atcr configure-docker %s --force replaces it", err, host)
		case err != nil:
			return err
		case undo && changed:
			fmt.Fprintf(std.Out, "%s no longer has this program asked for %s.\n", file, host)
		case undo:
			fmt.Fprintf(std.Out, "%s has no such entry for %s.\n", file, host)
		case changed:
			fmt.Fprintf(std.Out, "Clients ask this program for %s now (%s).\n", host, file)
		default:
			fmt.Fprintf(std.Out, "Clients ask this program for %s (%s).\n", host, file)
		}
	}
	return nil
}

// remarks say what would keep clients from using this program.
func remarks(std *cli.IO, host string) {
	say := func(format string, args ...any) {
		fmt.Fprintf(std.Err, credhelper.ClientID+": "+format+"\n", args...)
	}
	if _, err := exec.LookPath(credhelper.ClientID); err != nil {
		say("clients look for this program by its name, and it is in no folder of PATH: put it into one")
	}
	for _, file := range credhelper.PasswordsIn(std.Environ, host) {
		say("%s has a password for %s in the clear, which is not needed any more: remove it from auths there", file, host)
	}
}

// configured lists the hosts of clients' configurations, by file.
func configured(std *cli.IO) (map[string][]string, error) {
	files, err := credhelper.ConfigFiles(std.Environ)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, file := range files {
		hosts, err := credhelper.Configured(file)
		if err != nil {
			return out, err
		}
		if len(hosts) > 0 {
			out[file] = hosts
		}
	}
	return out, nil
}

// oneHost is the registry that is meant.
func oneHost(h *credhelper.Helper, std *cli.IO, named string) (string, error) {
	asked, err := configured(std)
	if err != nil && named == "" {
		return "", err
	}
	var more []string
	for _, hosts := range asked {
		more = append(more, hosts...)
	}
	return h.OneHost(named, more...)
}
