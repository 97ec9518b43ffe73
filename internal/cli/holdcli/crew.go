package holdcli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
)

type CrewCommands struct {
	HoldFile

	Add crewAddCommand `cmd:"" help:"Add a member, or change one. The hold may run."`
	Ls  crewLsCommand  `cmd:"" help:"List the members."`
	Rm  crewRmCommand  `cmd:"" help:"Remove a member, with all rights. The hold may run."`
}

// crewRun is one run of a verb.
type crewRun struct {
	settled *config.Hold
	dir     datadir.Config
	net     *network
}

func (c *CrewCommands) open(std *cli.IO) (*crewRun, error) {
	settled, h, err := c.load(std)
	if err != nil {
		return nil, err
	}
	dir, err := h.DataDir()
	return &crewRun{settled, dir, &network{hold: h, stderr: std.Err}}, err
}

type crewAddCommand struct {
	Member      string   `arg:"" help:"Handle or DID."`
	Permissions []string `help:"What the member may: blob:read, blob:write, crew:admin; else what it has, and reading and writing for a new one." placeholder:"LIST"`
	Tier        string   `help:"Tier of quota.tiers; else as it is."`
}

func (c *crewAddCommand) Run(ctx context.Context, std *cli.IO, all *CrewCommands) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	for i, p := range c.Permissions {
		c.Permissions[i] = strings.TrimSpace(p)
	}
	return r.change(ctx, std, c.Member, datadir.CrewChange{Permissions: c.Permissions, Tier: c.Tier})
}

type crewRmCommand struct {
	Member string `arg:"" help:"Handle or DID."`
}

func (c *crewRmCommand) Run(ctx context.Context, std *cli.IO, all *CrewCommands) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	return r.change(ctx, std, c.Member, datadir.CrewChange{Remove: true})
}

// change prints what was done, and what the next start would do about it.
func (r *crewRun) change(ctx context.Context, std *cli.IO, member string, c datadir.CrewChange) error {
	who, err := r.net.account(ctx, member)
	if err != nil {
		return err
	}
	c.Member = who.did.String()
	if c.Member == r.settled.Registration.OwnerDID {
		return fmt.Errorf("%s is the captain, who has every right and is no member of the crew", who)
	}
	did, err := datadir.ChangeCrew(ctx, r.dir, c)
	if err != nil {
		return err
	}
	fmt.Fprintln(std.Out, map[string]string{
		"added": "added " + who.String(), "changed": "changed " + who.String(), "unchanged": who.String() +
			" is a member already; nothing changed",
		"removed": "removed " + who.String(), "absent": who.String() + " is no member; nothing changed",
	}[did])
	for _, m := range r.settled.Registration.Crew {
		if m.Member != c.Member && syntax.Handle(m.Member).Normalize() != who.handle {
			continue
		}
		if c.Remove {
			fmt.Fprintf(std.Err, "warning: registration.crew of the configuration names %s: the hold adds it again when it starts; "+
				"take it out there, too\n", m.Member)
		} else {
			fmt.Fprintf(std.Err, "warning: registration.crew of the configuration names %s: when the hold starts, "+
				"what it says there wins\n", m.Member)
		}
	}
	return nil
}

type crewLsCommand struct{ cli.JSONFlag }

// crewMember is a line of the list.
type crewMember struct {
	DID         string   `json:"did"`
	Handle      string   `json:"handle,omitempty"` // empty when it can't be found out now
	Role        string   `json:"role"`
	Permissions []string `json:"permissions"`
	Tier        string   `json:"tier,omitempty"`
	AddedAt     string   `json:"addedAt"`
}

func (c *crewLsCommand) Run(ctx context.Context, std *cli.IO, all *CrewCommands) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	crew, err := datadir.ReadCrew(ctx, r.dir)
	if err != nil {
		return err
	}
	members := []crewMember{}
	for _, m := range crew {
		members = append(members, crewMember{m.Member, r.net.handle(ctx, m.Member), m.Role, append([]string{}, m.Permissions...), m.Tier,
			string(m.AddedAt)})
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.Print(std, members, func() error {
		if len(members) == 0 {
			_, err := fmt.Fprintln(std.Out, "no members; the captain is "+r.settled.Registration.OwnerDID)
			return err
		}
		w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "HANDLE\tDID\tPERMISSIONS\tTIER\tSINCE")
		for _, m := range members {
			fmt.Fprintln(w, strings.Join([]string{orDash(m.Handle), m.DID, orDash(strings.Join(m.Permissions, " ")), orDash(m.Tier),
				orDash(m.AddedAt)}, "\t"))
		}
		return w.Flush()
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// account is somebody on the network.
type account struct {
	did    syntax.DID
	handle syntax.Handle
}

func (a account) String() string {
	if a.handle == "" {
		return a.did.String()
	}
	return fmt.Sprintf("%s (%s)", a.handle, a.did)
}

// account finds who a handle or DID is. A handle counts when the DID's document names it, too.
func (r *network) account(ctx context.Context, name string) (account, error) {
	dir, _, done, err := r.open()
	if err != nil {
		return account{}, err
	}
	defer done()
	if strings.HasPrefix(name, "did:") {
		did, err := syntax.ParseDID(name)
		if err != nil {
			return account{}, cli.Usagef("%q is no DID: %v", name, err)
		}
		return account{did: did, handle: r.named(ctx, did)}, nil
	}
	handle, err := syntax.ParseHandle(strings.TrimPrefix(name, "@"))
	if err != nil {
		return account{}, cli.Usagef("%q is neither a handle, as in alice.example.com, nor a DID", name)
	}
	who, err := dir.LookupHandle(ctx, handle.Normalize())
	if err != nil {
		return account{}, fmt.Errorf("%s can't be looked up; name the DID instead, if you know it: %w", handle, err)
	}
	return account{who.DID, handle.Normalize()}, nil
}

// handle of a DID; empty when it can't be found out.
func (r *network) handle(ctx context.Context, did string) string {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return ""
	}
	return r.named(ctx, id).String()
}

func (r *network) named(ctx context.Context, did syntax.DID) syntax.Handle {
	dir, _, done, err := r.open()
	if err != nil {
		return ""
	}
	defer done()
	who, err := dir.LookupDID(ctx, did)
	if err != nil || who.Handle.IsInvalidHandle() {
		return ""
	}
	return who.Handle.Normalize()
}
