// Package appviewcli has the verbs of atcr-appview but for serve and config, as structs that kong reads. What they do is in packages that
// others can use: registry/auth, identity/oauth.
package appviewcli

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/registry/auth"
)

// KeysCommands are the verbs of `keys`.
type KeysCommands struct {
	Rotate      rotateCommand      `cmd:"" help:"Put a new key in place of the one that signs registry tokens, also while the AppView runs."`
	RotateOAuth rotateOAuthCommand `cmd:"" name:"rotate-oauth" help:"Put a new key before those that prove who the AppView is when people sign in by OAuth, also while it runs."`
}

type rotateCommand struct {
	cli.ConfigFile
	cli.JSONFlag
	DropOld bool `help:"Take no token of the old key any more: for one that somebody may have seen. Clients get new tokens by themselves."`
}

// Run rotates the key at auth.key_path.
func (c *rotateCommand) Run(std *cli.IO) error {
	settled, _, err := config.LoadAppView(c.Config, std.Environ)
	if err != nil {
		return err
	}
	path := settled.Auth.KeyPath
	r, err := auth.RotateKey(path, time.Now(), c.DropOld)
	if err != nil {
		return fmt.Errorf("auth.key_path: %w", err)
	}
	if err := durable.SameOwner(path, filepath.Dir(path)); err != nil { // root rotates what the AppView reads
		return err
	}
	out := struct {
		Key      string    `json:"key"`
		ID       string    `json:"kid"`
		Signs    time.Time `json:"signs"`
		OldUntil time.Time `json:"old_until,omitzero"`
	}{path, r.ID, r.Signs, r.OldUntil}
	return c.Print(std, out, func() error {
		text := fmt.Sprintf("%s has a new key: %s\n", path, r.ID)
		if c.DropOld {
			text += "A running AppView signs by it within seconds, and takes tokens of no other.\n"
		} else {
			text += fmt.Sprintf("A running AppView publishes it within seconds and signs by it from %s on.\n"+
				"The old one is taken until %s.\n", r.Signs.Format(time.RFC3339), r.OldUntil.Format(time.RFC3339))
		}
		_, err := fmt.Fprint(std.Out, text)
		return err
	})
}

type rotateOAuthCommand struct {
	cli.ConfigFile
	cli.JSONFlag
}

// Run rotates the key at server.oauth_key_path.
func (c *rotateOAuthCommand) Run(std *cli.IO) error {
	settled, _, err := config.LoadAppView(c.Config, std.Environ)
	if err != nil {
		return err
	}
	path := settled.OAuthKey()
	id, err := oauth.RotateKey(path)
	if err != nil {
		return fmt.Errorf("server.oauth_key_path: %w", err)
	}
	out := struct {
		Key string `json:"key"`
		ID  string `json:"kid"`
	}{path, id}
	return c.Print(std, out, func() error {
		_, err := fmt.Fprintf(std.Out, "%s has a new key: %s\n"+
			"A running AppView publishes it within seconds, and sign-ins from then on begin with it.\n"+
			"The keys before it stay in the file for the grants that began with them.\n", path, id)
		return err
	})
}
