package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/storage"
)

// notice is notifyManifest's input as far as the hold believes it: sizes and layers come from the record and the storage.
type notice struct {
	Repository     string        `json:"repository"`
	UserDID        string        `json:"userDid"`
	ManifestDigest digest.Digest `json:"manifestDigest"`
	Tag            string        `json:"tag"`
	Operation      string        `json:"operation"`
}

// noticeResult is its output.
type noticeResult struct {
	Success       bool   `json:"success"`
	Operation     string `json:"operation"`
	StatsUpdated  bool   `json:"statsUpdated"`
	LayersCreated *int   `json:"layersCreated,omitempty"`
	LayersDeleted *int   `json:"layersDeleted,omitempty"`
	PostCreated   *bool  `json:"postCreated,omitempty"`
}

func (n *notice) check() error {
	if err := oci.CheckName(n.Repository); err != nil {
		return invalid("repository: %v", err)
	}
	if err := storage.CheckDigest(n.ManifestDigest); err != nil {
		return invalidDigest("manifestDigest: %v", err)
	}
	if len(n.Tag) > 128 {
		return invalid("tag has %d bytes, at most 128 are allowed", len(n.Tag))
	}
	return nil
}

// notices are what AppViews tell of manifests: what is true of it is read at the owner's PDS and recorded in the ledger.
type notices struct {
	publicURL string
	keeper    *keeper
	pdses     *pdses
	store     storage.Store
	ledger    *ledger.Ledger
	records   *records
	clock     func() time.Time
	log       *slog.Logger
	crash     crashpoint.Hook

	locks    keylock.Locks // manifests being recorded or removed
	listings listings      // of settling
}

// of is the manifest that a notice is about.
func (n *notice) of() ledger.Manifest {
	return ledger.Manifest{DID: n.UserDID, Repository: n.Repository, Digest: n.ManifestDigest}
}

// withManifest calls f while nobody else records or removes the manifest, with the PDS of its owner and its record there; m is nil
// when there is none.
func (s *notices) withManifest(ctx context.Context, n notice, search bool, f func(p *pds, m *manifestRecord) (noticeResult,
	error)) (noticeResult, error) {
	unlock, err := s.locks.Lock(ctx, n.UserDID+" "+n.ManifestDigest.String())
	if err != nil {
		return noticeResult{}, err
	}
	defer unlock()
	p, err := s.pdses.of(ctx, n.UserDID)
	if err != nil {
		return noticeResult{}, err
	}
	m, err := p.manifest(ctx, n.Repository, n.ManifestDigest, search)
	if err != nil && !errors.Is(err, errNoRecord) {
		return noticeResult{}, err
	}
	return f(p, m)
}

// push writes the layer records of a manifest whose record stands at its owner's PDS and names this hold. However often it is
// called, there is one record for each layer.
func (s *notices) push(ctx context.Context, n notice) (noticeResult, error) {
	return s.withManifest(ctx, n, true, func(p *pds, m *manifestRecord) (noticeResult, error) {
		if m == nil {
			return noticeResult{}, fail(http.StatusBadRequest, "ManifestRecordNotFound", "%s has no record of %s in repository %q",
				n.UserDID, n.ManifestDigest, n.Repository)
		}
		created, err := s.recordManifest(ctx, p, m)
		if err != nil {
			return noticeResult{}, err
		}
		counted, err := s.count(ctx, "push", n.UserDID, n)
		no := false
		return noticeResult{Success: true, Operation: "push", StatsUpdated: counted, LayersCreated: &created, PostCreated: &no}, err
	})
}

// recordManifest writes the layer records of one manifest record. The caller holds the manifest's lock.
func (s *notices) recordManifest(ctx context.Context, p *pds, m *manifestRecord) (int, error) {
	if !s.namesUs(m) {
		return 0, fail(http.StatusForbidden, "ManifestNamesOtherHold", "the record %s names the hold %s, this is %s", m.URI,
			clip(m.HoldDID), s.keeper.self().DID)
	}
	man, err := p.body(ctx, m)
	if err != nil {
		return 0, err
	}
	layers, err := s.layersAtHand(ctx, man)
	if err != nil {
		return 0, err
	}
	_ = s.crash.Reach(crashpoint.ManifestRead)
	return s.ledger.Record(ctx, ledger.Manifest{DID: p.did, Repository: m.Repository, Digest: digest.Digest(m.Digest), URI: m.URI}, layers)
}

// layersAtHand are the blobs a manifest names, with the sizes they have here. One that must be here and isn't is an
// error; one that may lie elsewhere (nondistributable, or with urls) is left out.
func (s *notices) layersAtHand(ctx context.Context, man *oci.Manifest) ([]atcr.Layer, error) {
	if err := man.CheckDigests(); err != nil { // no AppView of ours takes it
		return nil, fail(http.StatusBadRequest, "InvalidManifest", "%v", err)
	}
	required := map[digest.Digest]bool{}
	all := man.Layers[:len(man.Layers):len(man.Layers)]
	if man.Config != nil {
		all = append(all, *man.Config)
	}
	for _, d := range man.RequiredBlobs() { // those that are children of an index, too
		required[d.Digest] = true
		all = append(all, d)
	}
	seen := map[digest.Digest]bool{}
	var layers []atcr.Layer
	for _, d := range all {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		info, err := s.store.Stat(ctx, d.Digest)
		if errors.Is(err, storage.ErrNotFound) {
			if required[d.Digest] {
				return nil, fail(http.StatusBadRequest, "ManifestBlobUnknown", "the hold lacks %s, which the manifest names", d.Digest)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stat %s: %w", d.Digest, err)
		}
		layers = append(layers, atcr.Layer{Digest: d.Digest.String(), Size: info.Size, MediaType: limitText(d.MediaType, 128)})
	}
	return layers, nil
}

func limitText(text string, n int) string {
	if len(text) > n {
		return "application/octet-stream"
	}
	return text
}

// remove removes a manifest's layer records once its record is gone from its owner's PDS.
func (s *notices) remove(ctx context.Context, n notice) (noticeResult, error) {
	return s.withManifest(ctx, n, false, func(p *pds, m *manifestRecord) (noticeResult, error) {
		if m != nil {
			return noticeResult{}, fail(http.StatusBadRequest, "ManifestRecordExists", "the record of %s still stands in repository %q",
				n.ManifestDigest, n.Repository)
		}
		uris, err := s.manifestURIs(ctx, p, n)
		if err != nil {
			return noticeResult{}, err
		}
		removed, err := s.ledger.Remove(ctx, n.of(), uris)
		if err != nil {
			return noticeResult{}, err
		}
		return noticeResult{Success: true, Operation: "delete", LayersDeleted: &removed}, nil
	})
}

// manifestURIs are the records, all gone now, under which this manifest's layers may be recorded: where the push was
// noted, and the two usual keys; a key that another repository's record has now is not ours to touch.
func (s *notices) manifestURIs(ctx context.Context, p *pds, n notice) ([]string, error) {
	uris := map[string]bool{}
	noted, err := s.ledger.URI(ctx, n.of())
	if err != nil {
		return nil, err
	}
	if noted != "" {
		uris[noted] = true
	}
	for _, rkey := range manifestKeys(n.Repository, n.ManifestDigest) {
		uris[p.manifestURI(rkey)] = true
	}
	var gone []string
	for uri := range uris {
		_, err := p.record(ctx, uri[len(p.manifestURI("")):])
		if errors.Is(err, errNoRecord) {
			gone = append(gone, uri)
		} else if err != nil && classify(err).status >= 500 {
			return nil, err
		}
	}
	return gone, nil
}

// pull counts a pull of a manifest that was pushed here.
func (s *notices) pull(ctx context.Context, caller string, n notice) (noticeResult, error) {
	res := noticeResult{Success: true, Operation: "pull"}
	if noted, err := s.ledger.URI(ctx, n.of()); err != nil || noted == "" {
		return res, err
	}
	var err error
	res.StatsUpdated, err = s.count(ctx, "pull", caller, n)
	return res, err
}

// count adds one to a repository's pulls or pushes, once for each caller, manifest and hour.
func (s *notices) count(ctx context.Context, op, caller string, n notice) (bool, error) {
	if first, err := s.ledger.Count(ctx, op, caller, n.of()); err != nil || !first {
		return false, err
	}
	now := s.clock()
	_, _, err := s.records.update(ctx, atcr.NSIDStats, atcr.StatsRKey(n.UserDID, n.Repository), func(o object, exists bool) bool {
		counter, last := "pullCount", "lastPull"
		if op == "push" {
			counter, last = "pushCount", "lastPush"
		}
		counts := object{"pullCount": o.number("pullCount"), "pushCount": o.number("pushCount")}
		counts[counter] = o.number(counter) + 1
		o.set(counts)
		o.set(object{"ownerDid": n.UserDID, "repository": n.Repository, "updatedAt": timestamp(now), last: timestamp(now)})
		return true
	})
	return err == nil, err
}

// settlePusher reads a user's manifest records and writes the layer records of those that name this hold. It returns the time when
// it began: what was pushed until then is recorded. When ctx ends meanwhile, the next call goes on where it stopped. A record that
// can't be read is an error, after the others have been read.
func (s *notices) settlePusher(ctx context.Context, did string) (asOf time.Time, err error) {
	p, err := s.pdses.of(ctx, did)
	if err != nil {
		return time.Time{}, err
	}
	l := s.listings.take(did, p.url, s.clock())
	for !l.ended {
		list, after, err := p.next(ctx, l)
		if err == nil {
			err = s.settlePage(ctx, p, l, list)
		}
		if ctx.Err() != nil {
			s.listings.keep(did, l)
			return time.Time{}, p.late(ctx, ctx.Err())
		}
		if err != nil {
			return time.Time{}, err
		}
		l.goOn(after)
	}
	return l.began, l.unread
}

func (s *notices) settlePage(ctx context.Context, p *pds, l *listing, list []*manifestRecord) error {
	for _, m := range list {
		if !s.namesUs(m) {
			continue
		}
		err := s.settleManifest(ctx, p, m)
		if err == nil {
			continue
		}
		if e := classify(err); ctx.Err() != nil || e.status >= 500 && e.name != "PDSUnavailable" {
			return err
		}
		s.log.Info("a manifest record can't be read, and keeps its owner's leases for a while", "uri", m.URI, "reason", err)
		l.unread = fmt.Errorf("manifest record %s: %w", m.URI, err)
	}
	return nil
}

// settleManifest is one of them.
func (s *notices) settleManifest(ctx context.Context, p *pds, m *manifestRecord) error {
	unlock, err := s.locks.Lock(ctx, p.did+" "+m.Digest)
	if err != nil {
		return err
	}
	defer unlock()
	if noted, err := s.ledger.URI(ctx, ledger.Manifest{DID: p.did, Repository: m.Repository,
		Digest: m.OCIDigest()}); err != nil || noted == m.URI {
		return err // its layers were recorded before it was noted
	}
	created, err := s.recordManifest(ctx, p, m)
	if created > 0 {
		s.log.Info("layers recorded that nobody had told of", "uri", m.URI, "layers", created)
	}
	return err
}

// namesUs reports whether a record names this hold, by DID or, in its oldest form, by address.
func (s *notices) namesUs(m *manifestRecord) bool {
	hold, err := m.Hold()
	if err != nil {
		return false
	}
	did, err := identity.NormalizeDID(hold)
	return err == nil && s.keeper.self().Is(did) || m.HoldDID == "" && strings.EqualFold(strings.TrimRight(m.HoldEndpoint, "/"),
		s.publicURL)
}
