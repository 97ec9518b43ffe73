package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/repo"
)

// Trust says which sets [Verify], [ReadConfig] and [Restore] take: those that a key of the hold has signed, as it is known from elsewhere
// than the target, and that are as new as they should be. Who can write to the target can put a set there that is whole, of the hold's
// DID, and full of keys and crew of his own; or leave there an old one alone, in which somebody still had rights.
//
// The zero value vouches for nothing: sets are refused with [ErrUntrusted], or RestoreOptions.Confirm is asked; ReadConfig reads them.
type Trust struct {
	// Keys are public signing keys of the hold, did:key:…: the one of now and those of before whose sets still count. What [Create]
	// returns as Manifest.SigningKey is one; never take it from a set that comes from the target.
	Keys []string
	// Document returns the signing keys that the DID's document named at a time. It is asked when none of Keys fits, and about DID only;
	// what it returns decides. An error means that it can't be asked. It may be called more than once, also about one DID and time.
	Document func(ctx context.Context, did syntax.DID, at time.Time) (keys []string, err error)
	// DID is the hold's, known from elsewhere than the target: anybody can make a DID whose document names his key.
	DID syntax.DID

	// MaxAge is how old a set may be; 0 is [DefaultMaxAge]. Twice the time between two backups is right.
	MaxAge time.Duration
	// Older takes a set that is older than that, or than another set at the target that the same Trust vouches for, or that is dated more
	// than a day from now.
	Older bool
	// Ahead takes a set whose event number is more than a day ahead of its time. A hold whose clock was wrong once makes such.
	Ahead bool
	// Unsigned takes a set that was made before sets were signed, unless its records are known to be signed by another's key. Nothing can
	// vouch for one: a restore asks Confirm.
	Unsigned bool
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
}

const (
	// DefaultMaxAge is how old a set may be where nothing says how often they are made.
	DefaultMaxAge = 7 * 24 * time.Hour

	// aheadMax is how far event numbers and times may be ahead of their clock. A restore puts numbers an hour ahead.
	aheadMax = 24 * time.Hour
)

// fill checks the keys.
func (tr *Trust) fill() error {
	keys := make([]string, 0, len(tr.Keys))
	for _, k := range tr.Keys {
		key, err := atcrypto.ParsePublicDIDKey(k)
		if err != nil {
			return fmt.Errorf("backup: Trust.Keys: %.100q is no public key like did:key:z…: %w", k, err)
		}
		keys = append(keys, key.DIDKey())
	}
	tr.Keys = keys
	if tr.MaxAge <= 0 {
		tr.MaxAge = DefaultMaxAge
	}
	if tr.Clock == nil {
		tr.Clock = time.Now
	}
	return nil
}

// check refuses a set, or returns why nothing vouches for it, which somebody has to be asked about: ErrUntrusted or ErrUnsigned. Of a set
// that is restored already in part the age was looked at when that began.
func (tr *Trust) check(ctx context.Context, t Target, m *Manifest, begun bool) (unproven, err error) {
	if err := tr.fill(); err != nil {
		return nil, err
	}
	unsigned := fmt.Errorf("%w: %s was made before sets were, so anybody who can write to %s may have made it", ErrUnsigned, m.Name, t)
	if !m.Signed() && !tr.Unsigned {
		return nil, unsigned
	}
	if unproven, err = tr.vouch(ctx, m); err != nil { // the key has signed the records at least
		return nil, err
	}
	if !m.Signed() {
		unproven = unsigned
	}
	if err := m.checkSeq(); err != nil && (!tr.Ahead || m.Seq < 0 || m.Seq > repo.MaxSeq-aheadMax.Microseconds()) {
		return nil, err
	}
	if begun || tr.Older {
		return unproven, nil
	}
	return unproven, tr.fresh(ctx, t, m, unproven == nil)
}

// vouch asks whose key signed a set. Both are nil: the hold's. An error: somebody else's. unproven: nobody knows.
func (tr *Trust) vouch(ctx context.Context, m *Manifest) (unproven, err error) {
	if slices.Contains(tr.Keys, m.SigningKey) {
		return nil, nil
	}
	keys, why := slices.Clone(tr.Keys), "no other place names the hold's key"
	known := len(keys) > 0
	if tr.Document != nil {
		why = "the DID of the hold is not known from elsewhere, so that its document says nothing"
	}
	if tr.Document != nil && tr.DID == m.DID {
		named, err := tr.Document(ctx, m.DID, m.Created)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			why = fmt.Sprintf("its DID document can't be asked (%v)", err)
		case slices.Contains(named, m.SigningKey):
			return nil, nil
		default:
			known, keys = true, append(keys, named...)
		}
	}
	if known {
		return nil, fmt.Errorf("%w: %s is signed by %s, the hold's key is %s", ErrUntrusted, m.Name, m.SigningKey,
			strings.Join(keys, " or "))
	}
	return fmt.Errorf("%w: %s is signed by %s, and %s", ErrUntrusted, m.Name, m.SigningKey, why), nil
}

// fresh refuses a set that is older than it should be.
func (tr *Trust) fresh(ctx context.Context, t Target, m *Manifest, proven bool) error {
	age := tr.Clock().Sub(m.Created)
	if age > tr.MaxAge {
		return fmt.Errorf("%w: %s was made %s ago, on %s; more than %s is refused, since rights that were taken away meanwhile come back",
			ErrOld, m.Name, age.Round(time.Second), m.Created.UTC().Format(time.RFC3339), tr.MaxAge)
	}
	if age < -aheadMax {
		return fmt.Errorf("%w, or a clock is wrong: by its own time %s was made on %s, which is still to come", ErrOld, m.Name,
			m.Created.UTC().Format(time.RFC3339))
	}
	sets, err := listAfter(ctx, t, m.Name)
	if err != nil {
		return err
	}
	for _, s := range sets {
		if !s.Whole() || s.Manifest.DID != m.DID {
			continue
		}
		if proven { // others' sets don't make the hold's own old
			if !s.Manifest.Signed() {
				continue
			}
			if unproven, err := tr.vouch(ctx, s.Manifest); ctx.Err() != nil {
				return ctx.Err()
			} else if unproven != nil || err != nil {
				continue
			}
		}
		return fmt.Errorf("%w: %s has a newer one than %s, %s", ErrOld, t, m.Name, s.Name)
	}
	return nil
}

// checkSeq holds the event number against the time of the set: numbers are microseconds of the clock.
func (m *Manifest) checkSeq() error {
	if most := m.Created.Add(aheadMax).UnixMicro(); m.Seq < 0 || m.Seq > most {
		return fmt.Errorf("%w: %s has the number %d, at most %d is right", ErrSeq, m.Name, m.Seq, most)
	}
	return nil
}
