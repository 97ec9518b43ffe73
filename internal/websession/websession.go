// Package websession keeps browsers signed in: a random cookie for each, and a row in the table web_session that holds its SHA-256 alone.
//
//	sessions, err := websession.New(ctx, websession.Options{DB: db, Name: "registry", Secure: true})
//	s, err := sessions.Begin(w, r, websession.Session{DID: did, Handle: handle, Grant: grant})  // at sign-in: a new cookie
//	s, err := sessions.Get(w, r)                                                                 // nil: nobody is signed in
//	err = sessions.SignOut(w, r)
//
// A session ends 30 days after its last use, by sign-out, from the page that lists them ([Sessions.End], [Sessions.EndAll]), or because
// the account signed in from more than 20 browsers: then the one that was not used for longest goes. Whatever ends it, [Options].Ended is
// told, so that what the browser acted by ends with it.
package websession

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/sqldb"
)

const (
	maxOfAccount = 20
	maxOfAll     = 200_000
	idle         = 30 * 24 * time.Hour // since the last use
	touchEvery   = 10 * time.Minute    // how exactly the last use is known
	maxAgent     = 256                 // bytes of User-Agent that are kept
	endAtOnce    = 8                   // calls of Options.Ended
)

// ErrNone: the account has no such session, or it has ended already.
var ErrNone = errors.New("there is no such browser, or it is signed out already")

// Options configures [New]. DB and Name are required.
type Options struct {
	// DB keeps the sessions, in the table web_session that New migrates. The caller closes it.
	DB *sqldb.DB
	// Name is the cookie's. Browsers don't keep apart the cookies of one host's ports: give each program a name of its own.
	Name string
	// Secure says that browsers come by https: the cookie goes by https alone, as __Host-NAME, which no other host can set.
	Secure bool
	// Ended is called for each session that has ended, whatever ended it, by several goroutines at once; nil: nothing.
	Ended func(context.Context, Session)
	// ClientAddr is where a request comes from; nil is httpx.ClientAddr.
	ClientAddr func(*http.Request) netip.Addr
	Clock      func() time.Time // nil: time.Now
	Log        *slog.Logger     // nil: slog.Default()
}

// Session is a browser that is signed in.
type Session struct {
	ID     string // names it on pages; no secret
	DID    string
	Handle string // when it signed in; may be empty
	Grant  string // what it acts by at the account's server
	Agent  string // User-Agent: untrusted, and cut
	// Address is where it was last used from.
	Address string
	Created time.Time
	Used    time.Time // to ten minutes
}

// Sessions are those of one application. Make them with [New]; safe for concurrent use, by several processes on one database, too.
type Sessions struct {
	opts   Options
	store  store
	cookie string
}

// New migrates the table.
func New(ctx context.Context, o Options) (*Sessions, error) {
	switch {
	case o.DB == nil:
		return nil, errors.New("websession: Options.DB is missing: package sqldb/sqlite opens one")
	case o.Name == "":
		return nil, errors.New("websession: Options.Name is missing: write a name for the cookie")
	}
	if o.Ended == nil {
		o.Ended = func(context.Context, Session) {}
	}
	if o.ClientAddr == nil {
		o.ClientAddr = httpx.ClientAddr
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := Migrate(ctx, o.DB); err != nil {
		return nil, fmt.Errorf("websession: %w", err)
	}
	return &Sessions{opts: o, store: store{o.DB}, cookie: CookieName(o.Name, o.Secure)}, nil
}

// CookieName is the name of a cookie that no other host can set, where browsers come by https.
func CookieName(name string, secure bool) string {
	if secure {
		return "__Host-" + name
	}
	return name
}

// Begin signs a browser in: it gets a new cookie, and the session that it had ends. DID, Handle and Grant are the caller's, the rest is
// filled in.
func (s *Sessions) Begin(w http.ResponseWriter, r *http.Request, as Session) (*Session, error) {
	var random [48]byte
	_, _ = rand.Read(random[:]) // it never fails
	secret, now := base64.RawURLEncoding.EncodeToString(random[:32]), s.opts.Clock()
	as.ID = hex.EncodeToString(random[32:])
	as.Agent, as.Address, as.Created, as.Used = agentOf(r), s.addressOf(r), now, now
	before, _ := s.secret(r)
	ended, err := s.store.add(r.Context(), as, hashOf(secret), hashOf(before))
	if err != nil {
		return nil, err
	}
	s.setCookie(w, secret, idle)
	s.tell(r.Context(), ended)
	return &as, nil
}

// Get returns who is signed in in a request's browser, nil for nobody. It notes the use, and takes back a cookie that is none.
func (s *Sessions) Get(w http.ResponseWriter, r *http.Request) (*Session, error) {
	secret, ok := s.secret(r)
	if !ok {
		return nil, nil
	}
	now := s.opts.Clock()
	e, err := s.store.byHash(r.Context(), hashOf(secret))
	if err != nil {
		return nil, err
	}
	if e == nil || now.Sub(e.Used) >= idle {
		s.setCookie(w, "", -1)
		return nil, nil
	}
	if now.Sub(e.Used) >= touchEvery {
		e.Used, e.Address, e.Agent = now, s.addressOf(r), agentOf(r)
		if err := s.store.touch(r.Context(), *e); err != nil {
			return nil, err
		}
		s.setCookie(w, secret, idle)
	}
	return e, nil
}

// SignOut ends the session of a request's browser, and takes the cookie back. It is no error when there is none.
func (s *Sessions) SignOut(w http.ResponseWriter, r *http.Request) error {
	secret, ok := s.secret(r)
	if !ok {
		return nil
	}
	ended, err := s.store.end(r.Context(), "where secret_hash = $1", hashOf(secret))
	if err != nil {
		return err
	}
	s.setCookie(w, "", -1)
	s.tell(r.Context(), ended)
	return nil
}

// List returns an account's sessions, the last used first.
func (s *Sessions) List(ctx context.Context, did string) ([]Session, error) {
	return s.store.list(ctx, "where did = $1 and used_at > $2 order by used_at desc, created_at desc, id",
		did, s.opts.Clock().Add(-idle).Unix())
}

// End ends one of an account's sessions. Errors: [ErrNone].
func (s *Sessions) End(ctx context.Context, did, id string) error {
	ended, err := s.store.end(ctx, "where did = $1 and id = $2", did, id)
	if err != nil {
		return err
	}
	if len(ended) == 0 {
		return ErrNone
	}
	s.tell(ctx, ended)
	return nil
}

// EndAll ends all of an account's sessions but one, which may be empty, and returns how many.
func (s *Sessions) EndAll(ctx context.Context, did, but string) (int, error) {
	ended, err := s.store.end(ctx, "where did = $1 and id <> $2", did, but)
	if err != nil {
		return 0, err
	}
	s.tell(ctx, ended)
	return len(ended), nil
}

// Run ends once an hour the sessions that were not used for 30 days, until ctx ends.
func (s *Sessions) Run(ctx context.Context) error {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		if err := s.prune(ctx); err != nil && ctx.Err() == nil {
			s.opts.Log.Error("ending browser sessions that are not used", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// prune ends what is idle, and the least used beyond maxOfAll, some at a time.
func (s *Sessions) prune(ctx context.Context) error {
	for ctx.Err() == nil {
		ended, err := s.store.end(ctx, `where id in (select id from web_session where used_at <= $1 order by used_at limit 500)
			or id in (select id from web_session order by used_at desc, id limit 500 offset $2)`,
			s.opts.Clock().Add(-idle).Unix(), maxOfAll)
		if err != nil || len(ended) == 0 {
			return err
		}
		s.tell(ctx, ended)
	}
	return ctx.Err()
}

// tell says that sessions have ended, also when who ended them has gone.
func (s *Sessions) tell(ctx context.Context, ended []Session) {
	ctx = context.WithoutCancel(ctx)
	var group errgroup.Group
	group.SetLimit(endAtOnce)
	for _, e := range ended {
		group.Go(func() error { s.opts.Ended(ctx, e); return nil })
	}
	_ = group.Wait() // nothing of it fails
}

// secret is what a request's cookie holds, if that can be one of ours.
func (s *Sessions) secret(r *http.Request) (string, bool) {
	c, err := r.Cookie(s.cookie)
	if err != nil || len(c.Value) != base64.RawURLEncoding.EncodedLen(32) {
		return "", false
	}
	return c.Value, true
}

func (s *Sessions) setCookie(w http.ResponseWriter, value string, life time.Duration) {
	age := int(life / time.Second)
	if value == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{
		Name: s.cookie, Value: value, Path: "/", MaxAge: age, Secure: s.opts.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func (s *Sessions) addressOf(r *http.Request) string {
	if a := s.opts.ClientAddr(r); a.IsValid() {
		return a.String()
	}
	return ""
}

func agentOf(r *http.Request) string {
	agent := strings.ToValidUTF8(strings.ReplaceAll(r.UserAgent(), "\x00", ""), "")
	return strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
}
