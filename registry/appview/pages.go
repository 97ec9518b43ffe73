package appview

import (
	"context"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/registry/web"
)

// openPages joins the pages with what they write to.
func (s *Server) openPages(ctx context.Context) (err error) {
	o := web.Options{
		DB: s.db, Directory: s.cfg.Directory, BaseURL: s.cfg.BaseURL, ListenAddr: s.cfg.Addr, Name: s.cfg.Name,
		Company: s.cfg.Company, Jurisdiction: s.cfg.Jurisdiction, Clock: s.cfg.Clock, Log: s.cfg.Log,
		Logins: logins{s.auth.Logins()}, Devices: devices{s.auth.Devices()}, Robots: robots{s.auth.Robots()}, End: s.endGrant,
	}
	if s.oauth != nil {
		o.OAuth = s.oauth
	}
	if s.cfg.WebAppPassword || s.cfg.TestMode {
		o.Passwords = s.auth
	}
	s.pages, err = web.New(ctx, o)
	return err
}

// logins are the refresh tokens of docker and others, as pages show them.
type logins struct{ *auth.Logins }

func (l logins) List(ctx context.Context, did string) ([]web.Token, error) {
	all, err := shown(l.Logins.List(ctx, did))
	for i := range all {
		all[i].Name = "docker login"
	}
	return all, err
}

// devices are as pages show them.
type devices struct{ *auth.Devices }

func (d devices) Pending(ctx context.Context, code string) (*web.Waiting, error) {
	p, err := d.Devices.Pending(ctx, code)
	if err != nil {
		return nil, err
	}
	return &web.Waiting{Code: p.UserCode, Name: p.Name, Address: p.Address, Since: p.Created}, nil
}

func (d devices) List(ctx context.Context, did string) ([]web.Token, error) {
	return shown(d.Devices.List(ctx, did))
}

// robots are as pages show and make them.
type robots struct{ *auth.Robots }

func (r robots) Create(ctx context.Context, did, handle, grant string, spec web.RobotSpec) (string, error) {
	o := auth.Robot{Name: spec.Name, Repositories: spec.Repositories, Days: spec.Days}
	for _, a := range spec.Actions {
		o.Actions = append(o.Actions, registry.Action(a))
	}
	secret, _, err := r.Robots.Create(ctx, did, handle, grant, o)
	return secret, err
}

func (r robots) Renew(ctx context.Context, did, id, grant string) (string, error) {
	secret, _, err := r.Robots.Renew(ctx, did, id, grant, 0)
	return secret, err
}

func (r robots) List(ctx context.Context, did string) ([]web.Token, error) {
	return shown(r.Robots.List(ctx, did))
}

func shown(all []auth.Token, err error) (out []web.Token, _ error) {
	for _, t := range all {
		one := web.Token{
			ID: t.ID, Name: t.Name, Repositories: t.Repositories, Address: t.Address, Created: t.Created, Used: t.Used, Ends: t.Ends,
			OldUntil: t.OldUntil,
		}
		for _, a := range t.Actions {
			one.Actions = append(one.Actions, string(a))
		}
		out = append(out, one)
	}
	return out, err
}
