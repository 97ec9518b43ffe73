package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxRobots        = 100 // an account's, with those that have ended by themselves
	maxRobotName     = 64  // bytes
	maxRobotPatterns = 100
	maxRobotDays     = 366
	robotDays        = 90 // when nothing else is said
	robotOverlap     = 24 * time.Hour
	robotNotice      = 14 * 24 * time.Hour
)

// Robots are jobs of a CI and other programs that act for an account without it: with a secret that ends by itself, for the
// repositories and actions that it was made for. Safe for concurrent use.
type Robots struct{ a *Auth }

// Robots returns what makes, renews, lists and ends robots.
func (a *Auth) Robots() *Robots { return &Robots{a} }

// Robot is what a robot may.
type Robot struct {
	Name string // for people: 1 to 64 bytes
	// Repositories are names below the account's, where * stands for any characters: "app", "team/*", "*". 1 to 100.
	Repositories []string
	Actions      []registry.Action // push brings pull, which clients ask for beside it
	Days         int               // until its end: 1 to 366; 0 is 90
}

// Create makes a robot for an account. It acts by a grant: a session of [Sessions], which should be its own, so that it lives on when the
// browser signs out; ending the robot ends a grant of OAuth, too. The secret is shown once. Errors: a registry.Error of status 400
// names what is wrong with a field; ErrDenied when the account has 100.
func (r *Robots) Create(ctx context.Context, did, handle, grantID string, o Robot) (secret string, t *Token, err error) {
	if did == "" || grantID == "" {
		return "", nil, errors.New("auth: Robots.Create: did or grantID is empty")
	}
	if err := o.check(did, handle); err != nil {
		return "", nil, err
	}
	if err := r.a.sessions.owned(ctx, did, grantID); err != nil {
		return "", nil, err
	}
	unlock, err := r.a.sessions.locks.Lock(ctx, "add "+did)
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	now := r.a.opts.Clock()
	n, err := r.a.secrets.count(ctx, did, kindRobot, now)
	if err != nil {
		return "", nil, err
	}
	if n >= maxRobots {
		return "", nil, registry.ErrDenied.With("%s has %d robots, which is the most: end one that is not used any more",
			nameOf(did, handle), maxRobots)
	}
	t = &Token{ID: newID(), kind: kindRobot, DID: did, Handle: handle, Session: grantID, Name: o.Name, Repositories: o.Repositories,
		Actions: o.Actions, Created: now, Used: now, Ends: now.AddDate(0, 0, o.Days)}
	secret, t.hash = newSecret(kindRobot, t.ID)
	if err := r.a.secrets.insert(ctx, r.a.secrets.db.Write(), t); err != nil {
		return "", nil, fmt.Errorf("storing a robot: %w", sqlx.Wrap(err))
	}
	r.a.opts.Log.Info("robot made", "did", did, "id", t.ID, "ends", t.Ends)
	return secret, t, nil
}

// Renew gives a robot another secret and another end, days from now (0 is 90). The secret of before is taken for a day more, if the
// robot had not ended yet. With a grantID the robot acts by that from now on, and its grant of before is ended; without one it keeps
// the one that it has. Errors: [ErrNoToken]; status 400 for days; ErrUnauthorized when its grant has ended: renew it with another one.
func (r *Robots) Renew(ctx context.Context, did, id, grantID string, days int) (secret string, t *Token, err error) {
	if days == 0 {
		days = robotDays
	}
	if err := checkDays(days); err != nil {
		return "", nil, err
	}
	unlock, err := r.a.sessions.locks.Lock(ctx, "add "+did)
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	t, err = r.a.secrets.byID(ctx, id)
	if err != nil {
		return "", nil, err
	}
	if t == nil || t.DID != did || t.kind != kindRobot || !t.ended.IsZero() {
		return "", nil, ErrNoToken
	}
	before := *t
	if grantID != "" {
		if err := r.a.sessions.owned(ctx, did, grantID); err != nil {
			return "", nil, err
		}
		t.Session = grantID
	} else if err := r.a.sessions.lives(ctx, t.Session); err != nil {
		if errors.Is(err, registry.ErrUnauthorized) {
			err = registry.ErrUnauthorized.With("%s can no longer act at the account's server: sign in there to renew it",
				t.title()).Wrap(err)
		}
		return "", nil, err
	}
	now := r.a.opts.Clock()
	t.oldHash, t.OldUntil = t.hash, now.Add(robotOverlap)
	if t.Ended(now) {
		t.OldUntil = t.Ends
	}
	secret, t.hash = newSecret(kindRobot, id)
	t.Ends = now.AddDate(0, 0, days)
	if err := r.a.secrets.renew(ctx, t); err != nil {
		return "", nil, err
	}
	r.a.lives.forget(id)
	r.a.opts.Log.Info("robot renewed", "did", did, "id", id, "ends", t.Ends)
	if before.Session != t.Session && isGrant(before.Session) {
		if err := r.a.sessions.End(ctx, did, before.Session); err != nil {
			r.a.opts.Log.Warn("the grant that a robot had before is still there", "did", did, "err", err)
		}
	}
	return secret, t, nil
}

// List returns an account's robots, the newest first, also those that have ended by themselves: they can be renewed.
func (r *Robots) List(ctx context.Context, did string) ([]Token, error) {
	return r.a.list(ctx, did, kindRobot)
}

// End ends one: within seconds it is refused, and so are the registry tokens that it gave; its grant of OAuth is ended at the account's
// server. Errors: [ErrNoToken].
func (r *Robots) End(ctx context.Context, did, id string) error {
	return r.a.end(ctx, did, kindRobot, id)
}

// EndsSoon reports whether a robot is to be renewed: it ends within 14 days, or has ended.
func (t *Token) EndsSoon(now time.Time) bool {
	return t.kind == kindRobot && !now.Add(robotNotice).Before(t.Ends)
}

func checkDays(days int) error {
	if days < 1 || days > maxRobotDays {
		return badRequest("a robot ends after 1 to %d days, not %d", maxRobotDays, days)
	}
	return nil
}

// check fills in defaults and names what is wrong.
func (o *Robot) check(did, handle string) error {
	if o.Days == 0 {
		o.Days = robotDays
	}
	if err := checkDays(o.Days); err != nil {
		return err
	}
	name := o.Name
	if o.Name = deviceName(name); strings.TrimSpace(name) == "" || len(name) > maxRobotName || o.Name != strings.TrimSpace(name) {
		return badRequest("a robot's name has 1 to %d bytes of letters that can be seen", maxRobotName)
	}
	actions := o.Actions
	o.Actions = nil
	for _, a := range []registry.Action{registry.Pull, registry.Push, registry.Delete} {
		if slices.Contains(actions, a) || a == registry.Pull && slices.Contains(actions, registry.Push) {
			o.Actions = append(o.Actions, a)
		}
	}
	for _, a := range actions {
		if !slices.Contains(o.Actions, a) {
			return badRequest("a robot may pull, push and delete, not %.32q", a)
		}
	}
	if len(o.Actions) == 0 {
		return badRequest("a robot that may nothing: choose pull, push or delete")
	}
	return o.checkRepositories(did, handle)
}

func (o *Robot) checkRepositories(did, handle string) error {
	var all []string
	for _, given := range o.Repositories {
		p := strings.ToLower(strings.TrimSpace(given))
		if first, rest, ok := strings.Cut(p, "/"); ok && isOwner(first, did, handle) {
			p = rest // written with the account's name, as docker is told it
		}
		switch {
		case p == "":
			return badRequest("the name of a repository is empty: write * for all")
		case len(p) > maxName || strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") ||
			strings.ContainsFunc(p, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-/*", r) }):
			return badRequest("%.64q is no name of repositories: it has small letters, digits, . _ - / and * for any characters", given)
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	if len(all) == 0 || len(all) > maxRobotPatterns {
		return badRequest("a robot has 1 to %d names of repositories, not %d: * is all of them", maxRobotPatterns, len(all))
	}
	o.Repositories = all
	return nil
}

// isOwner reports whether a name's first part is an account's handle or DID.
func isOwner(first, did, handle string) bool {
	id, err := identity.ParseOwner(first)
	return err == nil && (id.String() == did || handle != "" && strings.EqualFold(id.String(), handle))
}

// allows reports whether a robot may do something with a repository of its account, whose name is without the account's.
func (t *Token) allows(repository string, action registry.Action) bool {
	return slices.Contains(t.Actions, action) &&
		slices.ContainsFunc(t.Repositories, func(p string) bool { return like(p, repository) })
}

// like reports whether a name is one of a pattern's, in which * stands for any characters, also none.
func like(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, p := range parts[1 : len(parts)-1] { // the first place of each leaves the most for the others
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return true
}

// grantRobot leaves of what is wanted what a robot may. Pulls of other repositories are left out: there it is anonymous, as everybody is.
func (a *Auth) grantRobot(ctx context.Context, t *Token, wanted []access) []access {
	var granted []access
	mine := a.namespace(ctx, t.DID)
	for _, w := range wanted {
		_, repository, ok := strings.Cut(w.Name, "/")
		if !ok || !mine(w.Name) {
			continue
		}
		may := func(action string) bool { return t.allows(repository, registry.Action(action)) }
		if actions := slices.DeleteFunc(slices.Clone(w.Actions), func(action string) bool { return !may(action) }); len(actions) > 0 {
			granted = append(granted, access{w.Type, w.Name, actions})
		}
	}
	return granted
}

// beyondRobot is the refusal of what a robot may not.
func (a *Auth) beyondRobot(ctx context.Context, id, base string, w registry.Access) error {
	t, err := a.secrets.byID(ctx, id)
	if err != nil {
		return err
	}
	if t == nil {
		return errNoSession
	}
	may := make([]string, len(t.Actions))
	for i, action := range t.Actions {
		may[i] = string(action)
	}
	return registry.ErrDenied.With("%s may not do this with %s: it may %s %s. Another one can be made at %s/settings/access",
		t.title(), w.Repository, strings.Join(may, ", "), clip(strings.Join(t.Repositories, ", ")), base)
}
