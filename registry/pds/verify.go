package pds

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/semaphore"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
	"github.com/atcr-dev/atcr/registry/pds/internal/shared"
	"github.com/atcr-dev/atcr/repo"
)

// Verify says when the records of an owner's copy must be proved by the owner's signed repository (com.atproto.sync.getRecord,
// [repo.VerifyProof]) before a manifest is served: the manifest's record, and the tag's when it was asked for by tag. A
// record that was proved once stays so until it changes, also over restarts.
//
// A record that the repository does not hold as the PDS listed it, after one more look at the list, is served as unknown, counted (metric
// atcr_records_disproved_total, see [Backend.Metrics]) and logged, for a minute without asking again. So is a proof by another key or of
// another account; before that the owner's DID document is fetched afresh, at most once a minute. What a PDS leaves out of its list,
// or an old commit that it goes on to serve, no proof can show.
type Verify string

const (
	// VerifySampled asks for proofs at no more than one pull a second of an owner, and lets pass what can't be proved: beyond
	// that rate, and while the PDS is silent or knows no proofs (then it is asked again after a minute). Disproved records are
	// refused. The default: a PDS that lies is found out by ordinary use, and neither a silent one nor an old one stops pulls.
	VerifySampled Verify = "sampled"
	// VerifyAlways serves nothing that was not proved. A PDS that knows no proofs has its images refused; one that is silent has
	// those served that were proved before, as long as Options.ServeStale says.
	VerifyAlways Verify = "always"
	// VerifyNever asks for no proofs.
	VerifyNever Verify = "never"
)

const (
	methodGetProof = "com.atproto.sync.getRecord"
	maxProof       = 4 << 20     // a record has at most 1 MiB, the path of nodes above it some KiB
	maxProofs      = 16          // read at once; one of an owner
	sampleEvery    = time.Second // for an owner
	sampleAgain    = time.Minute // for an owner whose PDS gave none
	rekeyEvery     = time.Minute // for an owner
)

var (
	// errNotAsListed: the signed repository says something else than the copy. The copy may be old.
	errNotAsListed = errors.New("the signed repository does not hold the record as it was listed")
	errNoProofs    = errors.New("the PDS knows no proofs")
)

// believed looks a manifest up and returns it when the actor may read it and its records are proved as far as [Verify] asks. When
// the repository says otherwise than the copy, it looks once more in a copy that was just confirmed.
func (r *repository) believed(ctx context.Context, v view, look func() (manifestRow, *tagRow, error)) (view, manifestRow, error) {
	for last := false; ; last = true {
		m, t, err := look()
		if err != nil {
			return v, m, err
		}
		if err := r.b.holds.MayRead(ctx, r.actor, m.Hold); err != nil {
			return v, m, err
		}
		err = r.b.prover.prove(ctx, v, m, t, last)
		if last || !errors.Is(err, errNotAsListed) {
			return v, m, err
		}
		r.b.doubt(ctx, v.DID)
		if v, err = r.b.read(ctx, v.owner); err != nil {
			return v, m, err
		}
	}
}

// prover asks for proofs of records and remembers what came of it.
type prover struct {
	mode      Verify
	db        *sqlx.DB
	servers   servers
	directory identity.Directory
	clock     func() time.Time
	log       *slog.Logger

	flight    *shared.Group[struct{}]
	refused   *keyed.Memo[string, error]    // what could not be proved just now
	sampled   *keyed.Memo[string, struct{}] // owners of whom a pull was looked into just now
	rekeyed   *keyed.Memo[string, struct{}] // owners whose key was asked for anew lately
	proving   keylock.Locks                 // one proof of an owner at a time
	proofs    *semaphore.Weighted           // proofs in memory
	disproved atomic.Int64                  // records that the signed repository does not hold
}

func newProver(o Options, s servers) *prover {
	return &prover{
		mode: o.Verify, db: o.DB, servers: s, directory: o.Directory, clock: o.Clock, log: o.Log,
		refused: keyed.NewMemo[string, error](10_000), sampled: keyed.NewMemo[string, struct{}](10_000),
		rekeyed: keyed.NewMemo[string, struct{}](10_000), proofs: semaphore.NewWeighted(maxProofs),
		flight: shared.New[struct{}](shared.PerClient),
	}
}

// prove makes sure of a manifest's record, and a tag's when there is one. last tells that the copy was just confirmed.
func (p *prover) prove(ctx context.Context, v view, m manifestRow, t *tagRow, last bool) error {
	if p.mode == VerifyNever || m.Proved && (t == nil || t.Proved) {
		return nil
	}
	var claims []claim
	if t != nil && !t.Proved {
		claims = append(claims, tagClaim(v.DID, *t))
	}
	if !m.Proved {
		claims = append(claims, manifestClaim(m))
	}
	for _, c := range claims {
		if why, ok := p.refused.Get(c.key(v.DID), p.clock()); ok {
			return why
		}
	}
	if why, ok := p.refused.Get(noAnswer(v.DID), p.clock()); ok && p.mode == VerifyAlways {
		return why
	}
	if p.mode == VerifySampled && !last && (v.Warning != "" || !p.sample(v.DID)) {
		return nil
	}
	for _, c := range claims {
		err := p.proveOne(ctx, v, c)
		if err == nil {
			continue
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, repo.ErrInvalidProof), errors.Is(err, errNotAsListed) && last:
			return p.disprove(v.owner, c, err)
		case errors.Is(err, errNotAsListed):
			return err
		case p.mode == VerifySampled: // it could not be told
			p.sampled.Put(v.DID, struct{}{}, p.clock().Add(sampleAgain))
			return nil
		}
		if errors.Is(err, errNoProofs) {
			err = registry.ErrDenied.With("the PDS %s can't prove its records (%s), which this registry asks for", v.PDS, methodGetProof).
				Wrap(err)
		}
		if !errors.Is(err, httpx.ErrNoPlace) {
			p.refused.Put(noAnswer(v.DID), err, p.clock().Add(failureFor)) // or each pull would be a question to it
		}
		return err
	}
	return nil
}

func noAnswer(did string) string { return "proofs " + did }

// sample reports whether this pull is one that is looked into.
func (p *prover) sample(did string) bool {
	now := p.clock()
	if _, ok := p.sampled.Get(did, now); ok {
		return false
	}
	p.sampled.Put(did, struct{}{}, now.Add(sampleEvery))
	return true
}

// disprove counts a record that its owner's repository does not hold, and remembers it for a minute.
func (p *prover) disprove(o owner, c claim, why error) error {
	p.disproved.Add(1)
	p.log.Warn("record refused: its PDS can't prove it",
		"did", o.DID, "pds", clip(o.PDS), "collection", c.collection, "rkey", clip(c.rkey), "why", clip(why.Error()))
	err := registry.ErrManifestUnknown.With("the signed repository of %s does not hold this record, though its PDS lists it", o.DID).
		Wrap(why)
	p.refused.Put(c.key(o.DID), err, p.clock().Add(freshFor))
	return err
}

// claim is a row of the copy, as something to be proved.
type claim struct {
	collection, rkey, cid string
	table                 string
	columns               []string // of table: what the row says of the record
	fields                []any    // in the order of columns
	read                  func(value []byte) ([]any, error)
}

// key is also of the fields: a PDS may list others under the same CID.
func (c claim) key(did string) string {
	says := sha256.Sum256(fmt.Appendf(nil, "%#v", c.fields))
	return "proof " + did + "/" + c.collection + "/" + c.rkey + "/" + c.cid + "/" + hex.EncodeToString(says[:])
}

// same reports whether the record says what the row says.
func (c claim) same(value []byte) bool {
	fields, err := c.read(value)
	return err == nil && slices.Equal(fields, c.fields)
}

// mark remembers that the row was proved, if it still says what it said: it may have been listed anew meanwhile.
func (c claim) mark(ctx context.Context, db *sql.DB, owner string) error {
	query := `update ` + c.table + ` set proved = 1 where owner = $1 and rkey = $2 and cid = $3`
	for i, column := range c.columns {
		query += fmt.Sprintf(" and %s = $%d", column, i+4)
	}
	_, err := db.ExecContext(ctx, query, append([]any{owner, c.rkey, c.cid}, c.fields...)...)
	return sqlx.Wrap(err)
}

func manifestClaim(m manifestRow) claim {
	fields := func(m manifestRow) []any {
		return []any{m.Repository, string(m.Digest), m.Hold, m.MediaType, m.Size, m.Blob, string(m.Subject)}
	}
	return claim{atcr.NSIDManifest, m.RKey, m.CID, "pds_manifest",
		[]string{"repository", "digest", "hold", "media_type", "size", "blob", "subject"},
		fields(m), func(value []byte) ([]any, error) {
			w, err := readManifest(m.RKey, m.CID, value)
			return fields(w), err
		}}
}

func tagClaim(owner string, t tagRow) claim {
	fields := func(t tagRow) []any { return []any{t.Repository, t.Tag, t.ManifestRKey, string(t.Digest)} }
	return claim{atcr.NSIDTag, t.RKey, t.CID, "pds_tag", []string{"repository", "tag", "manifest_rkey", "digest"},
		fields(t), func(value []byte) ([]any, error) {
			w, err := readTag(owner, t.RKey, t.CID, value)
			return fields(w), err
		}}
}

// proveOne asks for the proof of one row and marks the row. One question for all who ask, and one at a time for an owner, so
// that a slow PDS takes no more than one of the places.
func (p *prover) proveOne(ctx context.Context, v view, c claim) error {
	if v.Warning != "" {
		e := registry.ErrUnavailable.With("the PDS %s does not answer, and the record of this manifest was never proved: try again later",
			v.PDS)
		e.RetryAfter = 10 * time.Second
		return e
	}
	_, err := p.flight.Do(ctx, c.key(v.DID), callTimeout, func(ctx context.Context) (none struct{}, err error) {
		release, err := p.proving.Lock(ctx, v.DID)
		if err != nil {
			return none, silent(v.PDS, methodGetProof, err)
		}
		defer release()
		if err := p.proofs.Acquire(ctx, 1); err != nil {
			return none, silent(v.PDS, methodGetProof, err)
		}
		defer p.proofs.Release(1)
		if err := p.checkProof(ctx, v.owner, c); err != nil {
			return none, err
		}
		if err := c.mark(ctx, p.db.Write(), v.DID); err != nil {
			p.log.Warn("a proof could not be remembered", "did", v.DID, "err", err)
		}
		return none, nil
	})
	return err
}

func (p *prover) checkProof(ctx context.Context, o owner, c claim) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	key, err := p.keyOf(ctx, o.DID)
	if err != nil {
		return silent(o.PDS, methodGetProof, err)
	}
	car, done, err := p.servers.of(o).proof(ctx, o.DID, c.collection, c.rkey)
	defer done()
	if err != nil {
		return err
	}
	rec, err := repo.VerifyProof(car, o.DID, key, c.collection, c.rkey)
	if errors.Is(err, repo.ErrInvalidProof) {
		if fresh := p.freshKeyOf(ctx, o.DID); fresh != nil && !fresh.Equal(key) {
			rec, err = repo.VerifyProof(car, o.DID, fresh, c.collection, c.rkey)
		}
	}
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return fmt.Errorf("%w: %w", errNotAsListed, err)
	case errors.Is(err, repo.ErrInvalidRecord) && !errors.Is(err, repo.ErrInvalidProof):
		// It is there, but what it says can't be compared with what was listed.
		return registry.ErrDenied.With("the record of this manifest or tag is not canonical DAG-CBOR, so it can't be proved").Wrap(err)
	case err != nil:
		return err
	}
	if c.cid != "" && rec.CID.String() != c.cid {
		return fmt.Errorf("%w: it is %s, not %s", errNotAsListed, rec.CID, clip(c.cid))
	}
	value, err := rec.JSON()
	if err != nil || !c.same(value) {
		return fmt.Errorf("%w: its fields differ", errNotAsListed)
	}
	return nil
}

func (p *prover) keyOf(ctx context.Context, did string) (atcrypto.PublicKey, error) {
	who, err := p.directory.LookupDID(ctx, syntax.DID(did))
	if err != nil {
		return nil, err
	}
	return who.PublicKey()
}

// freshKeyOf fetches the document anew, since a key may have been rotated; nil when that was done lately or fails.
func (p *prover) freshKeyOf(ctx context.Context, did string) atcrypto.PublicKey {
	now := p.clock()
	if _, ok := p.rekeyed.Get(did, now); ok {
		return nil
	}
	p.rekeyed.Put(did, struct{}{}, now.Add(rekeyEvery))
	if err := p.directory.Purge(ctx, syntax.DID(did).AtIdentifier()); err != nil {
		return nil
	}
	key, err := p.keyOf(ctx, did)
	if err != nil {
		return nil
	}
	return key
}

// proof asks for a record's proof. done is to be called when it is no longer needed; it is never nil.
func (p pds) proof(ctx context.Context, did, collection, rkey string) (car []byte, done func(), err error) {
	done = func() {}
	resp, err := p.ask(ctx, methodGetProof, url.Values{"did": {did}, "collection": {collection}, "rkey": {rkey}})
	if err != nil {
		return nil, done, err
	}
	if resp.StatusCode != http.StatusOK {
		body, err := httpx.ReadLimited(resp, 64<<10)
		if err != nil {
			return nil, done, silent(p.base, methodGetProof, err)
		}
		return nil, done, p.noProof(resp, body)
	}
	answer, err := httpx.Spool(resp, maxProof)
	if err == nil {
		done = answer.Close
		car, err = answer.Bytes()
	}
	switch {
	case errors.Is(err, httpx.ErrTooLarge):
		return nil, done, fmt.Errorf("%w: more than %d bytes", repo.ErrInvalidProof, maxProof)
	case err != nil:
		return nil, done, silent(p.base, methodGetProof, err)
	}
	return car, done, nil
}

// noProof tells a PDS without the method from one without the record, and both from one that fails.
func (p pds) noProof(resp *http.Response, body []byte) error {
	var x struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &x) // no JSON is no name
	err := refusal(p.base, methodGetProof, resp, body, p.clock())
	switch {
	case x.Error == "RecordNotFound":
		return fmt.Errorf("%w: %w", errNotAsListed, err)
	case errors.Is(err, errRepoGone), errors.Is(err, registry.ErrTooManyRequests):
		return err
	case x.Error == "MethodNotImplemented", x.Error == "XRPCNotSupported", resp.StatusCode == http.StatusNotImplemented,
		resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("%w: %w", errNoProofs, err)
	}
	return silent(p.base, methodGetProof, err)
}
