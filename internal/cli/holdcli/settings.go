// Package holdcli has the verbs of atcr-hold but for serve and config, as structs that kong reads, and what they have in
// common: the parts of a hold as a configuration describes them, secrets from files and the environment, accounts of the
// network, and how things are printed. What the verbs do is in packages that others can use: hold/datadir, hold/backup, identity/plc, repo.
package holdcli

import (
	"context"
	"log/slog"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/cli/database"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

// Settings is the hold of a configuration. Its backups are those of [Schedule], its database that of [WithDatabase].
func Settings(c *config.Hold, log *slog.Logger) hold.Config {
	var crew []hold.CrewMember
	for _, m := range c.Registration.Crew {
		crew = append(crew, hold.CrewMember(m))
	}
	var tiers []hold.Tier
	for _, t := range c.Quota.Tiers {
		tiers = append(tiers, hold.Tier{Name: t.Name, Description: t.Description})
	}
	return hold.Config{
		Dir:                c.Database.Path,
		StoragePath:        c.StoragePath(),
		Addr:               c.Server.Addr,
		TrustedProxies:     c.Server.Proxies(),
		PublicURL:          c.Server.PublicURL,
		Public:             c.Server.Public,
		TestMode:           c.Server.TestMode,
		AllowNetworks:      c.Network.Prefixes(),
		HandleResolverURL:  c.Server.HandleResolverURL,
		RefuseLegacyTokens: !c.Server.AcceptLegacyTokens,
		NoRedirect:         !c.Server.Redirect,
		Region:             c.Server.Region,
		Successor:          c.Server.Successor,
		OwnerDID:           c.Registration.OwnerDID,
		AllowAllCrew:       c.Registration.AllowAllCrew,
		EnableBlueskyPosts: c.Registration.EnableBlueskyPosts,
		Profile:            hold.Profile{DisplayName: c.Registration.ProfileName, Description: c.Registration.ProfileDescription},
		Crew:               crew,
		AppViewDID:         c.Server.AppViewDID,
		Tiers:              tiers,
		Relays:             c.Relays.Endpoints,
		PLCURL:             c.Identity.PLCDirectoryURL,
		Identity: identity.Config{
			Method: c.Identity.DIDMethod, DID: c.Identity.DID,
			RotationKeyPath: c.Identity.RotationKeyPath, RotationKey: c.Identity.RotationKey, RecoveryDIDKey: c.Identity.RecoveryDIDKey,
		},
		Log: log,
	}
}

// Keys are the configuration keys of the fields that errors of package identity name.
func Keys() map[string]string {
	return map[string]string{
		"identity.Config.Dir": "database.path", "identity.Config.PublicURL": "server.public_url",
		"identity.Config.Method": "identity.did_method",
		"identity.Config.DID":    "identity.did", "identity.Config.PLCURL": "identity.plc_directory_url",
		"identity.Config.RotationKey": "identity.rotation_key", "identity.Config.RecoveryDIDKey": "identity.recovery_did_key",
		"identity.Config.AcceptKey": "serve --accept-key",
	}
}

// WithDatabase runs f with the database that database.url names open; without one f is given nil, for the files in the folder.
func WithDatabase(ctx context.Context, c *config.Hold, f func(*sqldb.DB) error) error {
	return database.With(ctx, "database.url", c.Database.URL, f)
}
