package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/websession"
	"github.com/atcr-dev/atcr/internal/webui"
	"github.com/atcr-dev/atcr/registry"
)

// Token is a device, a robot, or a sign-in of docker's, without its secret. Its names are an untrusted client's.
type Token struct {
	ID   string // no secret
	Name string
	// Repositories and Actions are what a robot may.
	Repositories, Actions []string
	Address               string // where it was last used from
	Created               time.Time
	Used                  time.Time // Created when it never was
	Ends                  time.Time // by itself; zero: it does not
	OldUntil              time.Time // until when the secret before the last renewal is good; zero: there is none
}

// Logins are the sign-ins of docker and other clients that keep a token.
type Logins interface {
	List(ctx context.Context, did string) ([]Token, error)
	End(ctx context.Context, did, id string) error
}

// Robots are secrets for jobs. Errors are of the registry's kinds, with messages for people.
type Robots interface {
	// Create returns a new robot's secret, which acts for an account by a grant.
	Create(ctx context.Context, did, handle, grant string, spec RobotSpec) (secret string, err error)
	// Renew returns another secret for a robot; that of before is good for a day longer. Without a grant the robot acts by its own,
	// which registry.ErrUnauthorized says has ended: then it needs one.
	Renew(ctx context.Context, did, id, grant string) (secret string, err error)
	List(ctx context.Context, did string) ([]Token, error)
	End(ctx context.Context, did, id string) error
}

// RobotSpec is what a robot is to be, as somebody wrote it.
type RobotSpec struct {
	Name         string   `json:"name"`
	Repositories []string `json:"repositories"` // names below the account's, or globs
	Actions      []string `json:"actions"`      // pull, push, delete
	Days         int      `json:"days"`
}

const (
	endsSoon    = 14 * 24 * time.Hour
	robotDays   = 90
	maxDays     = 366
	maxName     = 64  // of a robot, as it is written in a form
	maxPatterns = 100 // of a robot
	maxPattern  = 255 // bytes
)

// accessPage is the data of /settings/access.
type accessPage struct {
	Browsers []browserItem
	Devices  *tokenList // nil: there are none here
	Logins   *tokenList
	Robots   *tokenList
	Spec     RobotSpec // as the form for a new robot is filled in
	Pull     bool
	Push     bool
	Delete   bool
	Again    bool // making a robot asks the account's server once more
	MaxDays  int
	Lines    string // Spec.Repositories, one a line
}

type browserItem struct {
	websession.Session
	This bool
}

type tokenList struct {
	Kind  string // the part of the address that their forms go to
	None  string // what stands there when there are none
	Items []tokenItem
}

type tokenItem struct {
	Token
	Ended, Soon bool
	Unused      bool
	Old         bool // the secret before is still good
	Renewable   bool
}

func (s *Site) access(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	spec := RobotSpec{Actions: []string{"pull"}, Days: robotDays}
	s.showAccess(w, r, who, http.StatusOK, webui.Page{Notice: notices[r.URL.Query().Get("done")]}, spec)
}

// notices are what forms have done, by the word that they lead back with.
var notices = map[string]string{
	"browser": "That browser is signed out.", "browsers": "All other browsers are signed out.",
	"device": "That device is signed out. It is refused within seconds.", "login": "That sign-in has ended. It is refused within seconds.",
	"robot": "That robot has ended. It is refused within seconds.",
}

func (s *Site) showAccess(w http.ResponseWriter, r *http.Request, who *websession.Session, status int, p webui.Page, spec RobotSpec) {
	data, err := s.accessData(r.Context(), who, spec)
	if err != nil {
		s.fail(w, r, accountName(who), err)
		return
	}
	p.Title, p.Account, p.Data = "Access", accountName(who), data
	s.pages.Show(w, r, status, "access", p)
}

func (s *Site) accessData(ctx context.Context, who *websession.Session, spec RobotSpec) (*accessPage, error) {
	d := &accessPage{
		Spec: spec, MaxDays: maxDays, Lines: strings.Join(spec.Repositories, "\n"),
		Pull: slices.Contains(spec.Actions, "pull"), Push: slices.Contains(spec.Actions, "push"),
		Delete: slices.Contains(spec.Actions, "delete"),
		Again:  s.opts.OAuth != nil && strings.HasPrefix(who.Grant, oauthPrefix),
	}
	browsers, err := s.sessions.List(ctx, who.DID)
	if err != nil {
		return nil, err
	}
	for _, b := range browsers {
		d.Browsers = append(d.Browsers, browserItem{b, b.ID == who.ID})
	}
	fill := func(to **tokenList, kind, none string, list func(context.Context, string) ([]Token, error)) {
		if err != nil {
			return
		}
		var all []Token
		if all, err = list(ctx, who.DID); err == nil {
			*to = &tokenList{Kind: kind, None: none, Items: s.items(all, kind == "robots")}
		}
	}
	if s.opts.Devices != nil {
		fill(&d.Devices, "devices", "No device is signed in: docker-credential-atcr login does that.", s.opts.Devices.List)
	}
	if s.opts.Logins != nil {
		fill(&d.Logins, "logins", "No docker client keeps a sign-in.", s.opts.Logins.List)
	}
	if s.opts.Robots != nil {
		fill(&d.Robots, "robots", "There is no robot.", s.opts.Robots.List)
	}
	return d, err
}

func (s *Site) items(all []Token, renewable bool) []tokenItem {
	now := s.opts.Clock()
	var items []tokenItem
	for _, t := range all {
		i := tokenItem{Token: t, Unused: !t.Used.After(t.Created), Old: t.OldUntil.After(now), Renewable: renewable}
		i.Ended = !t.Ends.IsZero() && !now.Before(t.Ends)
		i.Soon = renewable && !i.Ended && !t.Ends.IsZero() && t.Ends.Sub(now) < endsSoon
		items = append(items, i)
	}
	return items
}

// done leads back to the list, saying what was done, or shows why it wasn't.
func (s *Site) done(w http.ResponseWriter, r *http.Request, who *websession.Session, what string, err error) {
	if err != nil {
		s.fail(w, r, accountName(who), err, webui.Link{Text: "Back to the list", URL: "/settings/access"})
		return
	}
	http.Redirect(w, r, withNotice("/settings/access", what), http.StatusSeeOther)
}

func (s *Site) endBrowser(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	switch id := r.PostForm.Get("id"); {
	case r.PostForm.Get("all") != "":
		_, err := s.sessions.EndAll(r.Context(), who.DID, who.ID)
		s.done(w, r, who, "browsers", err)
	case id == who.ID:
		s.signOut(w, r)
	default:
		s.done(w, r, who, "browser", s.sessions.End(r.Context(), who.DID, id))
	}
}

func (s *Site) endDevice(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Devices == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	s.done(w, r, who, "device", s.opts.Devices.End(r.Context(), who.DID, r.PostForm.Get("id")))
}

func (s *Site) endLogin(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Logins == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	s.done(w, r, who, "login", s.opts.Logins.End(r.Context(), who.DID, r.PostForm.Get("id")))
}

func (s *Site) endRobot(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Robots == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	s.done(w, r, who, "robot", s.opts.Robots.End(r.Context(), who.DID, r.PostForm.Get("id")))
}

// makeRobot takes the form for a new robot.
func (s *Site) makeRobot(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Robots == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	spec, err := robotSpec(r)
	if err == nil {
		err = s.ask(w, r, who, errand{Kind: errandRobot, Spec: &spec})
	}
	if err != nil {
		s.refuseRobot(w, r, who, spec, err)
	}
}

// refuseRobot shows the form again, as it was filled in.
func (s *Site) refuseRobot(w http.ResponseWriter, r *http.Request, who *websession.Session, spec RobotSpec, err error) {
	status, text := s.tell(w, r, err)
	s.showAccess(w, r, who, status, webui.Page{Trouble: text}, spec)
}

// robotSpec reads the form. What a robot may be called, and may do, is decided by [Robots].
func robotSpec(r *http.Request) (RobotSpec, error) {
	spec := RobotSpec{
		Name:         strings.TrimSpace(r.PostForm.Get("name")),
		Repositories: strings.FieldsFunc(r.PostForm.Get("repositories"), func(c rune) bool { return c <= ' ' || c == ',' }),
		Actions:      r.PostForm["action"], Days: robotDays,
	}
	days := strings.TrimSpace(r.PostForm.Get("days"))
	n, err := strconv.Atoi(days)
	if err == nil {
		spec.Days = n
	}
	bad := func(format string, args ...any) (RobotSpec, error) {
		return spec, refuse(http.StatusBadRequest, format, args...)
	}
	switch {
	case spec.Name == "":
		return bad("the robot needs a name, such as the job's that it is for")
	case len(spec.Name) > maxName:
		return bad("a robot's name has at most %d bytes", maxName)
	case len(spec.Repositories) == 0:
		return bad("name the repositories that the robot is for, one a line; * stands for all of yours")
	case len(spec.Repositories) > maxPatterns:
		return bad("a robot has at most %d names of repositories: * stands for any characters", maxPatterns)
	case slices.ContainsFunc(spec.Repositories, func(s string) bool { return len(s) > maxPattern }):
		return bad("a repository's name has at most %d bytes", maxPattern)
	case len(spec.Actions) == 0:
		return bad("say what the robot may do: pull, push or delete")
	case len(spec.Actions) > 3:
		return bad("a robot may pull, push and delete, nothing else")
	case days != "" && err != nil, spec.Days < 1, spec.Days > maxDays:
		return bad("a robot lives between 1 and %d days", maxDays)
	}
	return spec, nil
}

// secretPage is the data of the page that shows a secret, once.
type secretPage struct {
	Name, Secret, Host, Handle string
	Renewed                    bool
}

// newRobot makes a robot that acts by a grant, shows its secret, and reports whether there is one.
func (s *Site) newRobot(w http.ResponseWriter, r *http.Request, who *websession.Session, spec RobotSpec, grant string) bool {
	secret, err := s.opts.Robots.Create(r.Context(), who.DID, who.Handle, grant, spec)
	if err != nil {
		s.refuseRobot(w, r, who, spec, err)
		return false
	}
	s.showSecret(w, r, who, secretPage{Name: spec.Name, Secret: secret})
	return true
}

func (s *Site) renewRobot(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Robots == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	id, name := r.PostForm.Get("id"), r.PostForm.Get("name")
	secret, err := s.opts.Robots.Renew(r.Context(), who.DID, id, "")
	if errors.Is(err, registry.ErrUnauthorized) {
		err = s.ask(w, r, who, errand{Kind: errandRenew, ID: id, Name: name[:min(len(name), maxName)]})
		if err == nil {
			return
		}
	}
	if err != nil {
		s.done(w, r, who, "", err)
		return
	}
	s.showSecret(w, r, who, secretPage{Name: name, Secret: secret, Renewed: true})
}

// renewed gives a robot another grant and secret, shows the latter, and reports whether it could.
func (s *Site) renewed(w http.ResponseWriter, r *http.Request, who *websession.Session, id, name, grant string) bool {
	secret, err := s.opts.Robots.Renew(r.Context(), who.DID, id, grant)
	if err != nil {
		s.done(w, r, who, "", err)
		return false
	}
	s.showSecret(w, r, who, secretPage{Name: name, Secret: secret, Renewed: true})
	return true
}

func (s *Site) showSecret(w http.ResponseWriter, r *http.Request, who *websession.Session, p secretPage) {
	p.Host, p.Handle = r.Host, accountName(who)
	if s.base != nil {
		p.Host = s.base.Host
	}
	title := "The robot's secret"
	if p.Renewed {
		title = "The robot's new secret"
	}
	s.pages.Show(w, r, http.StatusOK, "secret", webui.Page{Title: title, Account: accountName(who), Data: p})
}
