package pds

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
	"github.com/atcr-dev/atcr/registry/pds/internal/shared"
)

const maxHot = 64 << 10 // bytes of a manifest that is also kept in memory

// body is a manifest's bytes, and the media type when they tell it themselves.
type body struct {
	bytes     []byte
	mediaType string
}

// bodies gives the bytes of manifests, and keeps them by digest: in the table pds_bytes, small ones in memory too.
type bodies struct {
	db      *sqlx.DB
	servers servers
	limit   int64 // of the table, in bytes
	clock   func() time.Time
	log     *slog.Logger

	flight     *shared.Group[body]
	refused    *keyed.Memo[string, error]       // records whose bytes can't be served
	hot        *keyed.Memo[digest.Digest, body] // bytes of small manifests
	mismatched atomic.Int64                     // records whose bytes are not those of their digest
	added      atomic.Int64                     // bytes that were kept since the last trim
}

func newBodies(db *sqlx.DB, s servers, limit int64, clock func() time.Time, log *slog.Logger) *bodies {
	return &bodies{
		db: db, servers: s, limit: limit, clock: clock, log: log, flight: shared.New[body](shared.PerClient),
		refused: keyed.NewMemo[string, error](10_000), hot: keyed.NewMemo[digest.Digest, body](256),
	}
}

// manifest gives a manifest that a record names, whole: from the cache, else from the owner's PDS. What does not hash to the
// record's digest is refused.
func (b *bodies) manifest(ctx context.Context, o owner, m manifestRow) (registry.Manifest, error) {
	c, err := b.get(ctx, o, m)
	if err != nil {
		return registry.Manifest{}, err
	}
	mediaType := c.mediaType
	if mediaType == "" {
		p, err := registry.ParseManifest(m.MediaType, c.bytes, m.Digest)
		if err != nil {
			return registry.Manifest{}, b.refuse(o, m, err)
		}
		mediaType = p.MediaType
	}
	return registry.Manifest{Digest: m.Digest, MediaType: mediaType, Bytes: c.bytes}, nil
}

// refuse counts a record whose manifest can't be served.
func (b *bodies) refuse(o owner, m manifestRow, why error) error {
	b.mismatched.Add(1)
	b.log.Warn("manifest refused", "did", o.DID, "rkey", m.RKey, "digest", m.Digest, "why", why)
	return registry.ErrManifestUnknown.With("the record of %s does not hold that manifest", m.Digest).Wrap(why)
}

func (b *bodies) get(ctx context.Context, o owner, m manifestRow) (body, error) {
	now := b.clock()
	if c, ok := b.hot.Get(m.Digest, now); ok {
		return c, nil
	}
	key := o.DID + "/" + m.RKey + "/" + m.CID
	if why, ok := b.refused.Get(key, now); ok {
		return body{}, why
	}
	c, ok, err := b.cached(ctx, m.Digest)
	if err != nil {
		return c, err
	}
	if ok {
		b.keepHot(m.Digest, c)
		return c, nil
	}
	c, err = b.flight.Do(ctx, key, callTimeout, func(ctx context.Context) (body, error) {
		raw, err := b.fetch(ctx, o, m)
		if err != nil {
			return body{}, err
		}
		return b.keep(ctx, m.Digest, raw)
	})
	if errors.Is(err, registry.ErrManifestUnknown) {
		b.refused.Put(key, err, now.Add(freshFor))
	}
	return c, err
}

// fetch asks the owner's PDS for the bytes; the oldest form of records has none, then they are rebuilt.
func (b *bodies) fetch(ctx context.Context, o owner, m manifestRow) ([]byte, error) {
	if m.Blob == "" {
		return b.rebuild(ctx, o, m)
	}
	raw, err := b.servers.of(o).blob(ctx, o.DID, m.Blob)
	if errors.Is(err, errNoRecord) || errors.Is(err, errTooLarge) {
		return nil, b.refuse(o, m, err)
	}
	if err != nil {
		return nil, err
	}
	if got := m.Digest.Algorithm().FromBytes(raw); got != m.Digest {
		return nil, b.refuse(o, m, fmt.Errorf("its bytes hash to %s", got))
	}
	return raw, nil
}

// rebuild makes a manifest from the fields of its record, in the layouts that docker and OCI tools write, and takes
// the one that hashes to the digest.
func (b *bodies) rebuild(ctx context.Context, o owner, m manifestRow) ([]byte, error) {
	rec, err := b.servers.of(o).getRecord(ctx, o.DID, atcr.NSIDManifest, m.RKey)
	if errors.Is(err, errNoRecord) {
		return nil, b.refuse(o, m, err)
	}
	if err != nil {
		return nil, err
	}
	for _, raw := range rebuilds(rec.Value) {
		if m.Digest.Algorithm().FromBytes(raw) == m.Digest {
			return raw, nil
		}
	}
	return nil, b.refuse(o, m, errors.New("the record has no manifestBlob, and no manifest rebuilt from its fields has the digest"))
}

// rebuilds gives the candidates for the bytes of a record without manifestBlob.
func rebuilds(value []byte) [][]byte {
	var v struct {
		MediaType     string               `json:"mediaType"`
		SchemaVersion int                  `json:"schemaVersion"`
		Config        *ocispec.Descriptor  `json:"config"`
		Layers        []ocispec.Descriptor `json:"layers"`
		Manifests     []struct {
			ocispec.Descriptor
			Platform *struct {
				Architecture string   `json:"architecture"`
				OS           string   `json:"os"`
				OSVersion    string   `json:"osVersion"`
				OSFeatures   []string `json:"osFeatures"`
				Variant      string   `json:"variant"`
			} `json:"platform"`
		} `json:"manifests"`
		Subject     *ocispec.Descriptor `json:"subject"`
		Annotations map[string]string   `json:"annotations"`
	}
	if json.Unmarshal(value, &v) != nil {
		return nil
	}
	var forms []any
	version := specs.Versioned{SchemaVersion: v.SchemaVersion}
	for _, mediaType := range []string{v.MediaType, ""} {
		if len(v.Manifests) > 0 {
			index := ocispec.Index{Versioned: version, MediaType: mediaType, Subject: v.Subject, Annotations: v.Annotations}
			for _, c := range v.Manifests {
				d := c.Descriptor
				if p := c.Platform; p != nil {
					d.Platform = &ocispec.Platform{
						Architecture: p.Architecture, OS: p.OS, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures, Variant: p.Variant,
					}
				}
				index.Manifests = append(index.Manifests, d)
			}
			forms = append(forms, index)
		} else if v.Config != nil {
			forms = append(forms, ocispec.Manifest{
				Versioned: version, MediaType: mediaType, Config: *v.Config, Layers: v.Layers, Subject: v.Subject,
				Annotations: v.Annotations,
			})
		}
	}
	var out [][]byte
	for _, f := range forms {
		for _, indent := range []string{"", "   ", "  ", "\t"} {
			raw, err := json.Marshal(f)
			if indent != "" {
				raw, err = json.MarshalIndent(f, "", indent)
			}
			if err == nil {
				out = append(out, raw, append(raw[:len(raw):len(raw)], '\n'))
			}
		}
	}
	return out
}

func (b *bodies) keepHot(d digest.Digest, c body) {
	if len(c.bytes) <= maxHot {
		b.hot.Put(d, c, b.clock().Add(24*time.Hour))
	}
}

func (b *bodies) cached(ctx context.Context, d digest.Digest) (body, bool, error) {
	var c body
	err := b.db.Read().QueryRowContext(ctx, `select media_type, body from pds_bytes where digest = $1`,
		string(d)).Scan(&c.mediaType, &c.bytes)
	return found(c, err)
}

// keep keeps bytes that have the digest.
func (b *bodies) keep(ctx context.Context, d digest.Digest, raw []byte) (body, error) {
	c := newBody(d, raw)
	err := sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error { return b.write(ctx, tx, d, c) })
	if err == nil && b.added.Add(int64(len(raw))) > b.limit/16 { // sooner than the next upkeep
		b.added.Store(0)
		err = b.trim(ctx)
	}
	if err != nil {
		// The answer is right all the same.
		b.log.Warn("a manifest could not be cached", "digest", d, "err", err)
	}
	b.keepHot(d, c)
	return c, nil
}

func newBody(d digest.Digest, raw []byte) body {
	c := body{bytes: raw}
	var says struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(raw, &says) != nil || says.MediaType == "" {
		return c // the record has to say it
	}
	if p, err := registry.ParseManifest("", raw, d); err == nil {
		c.mediaType = p.MediaType
	}
	return c
}

func (b *bodies) write(ctx context.Context, tx *sql.Tx, d digest.Digest, c body) error {
	_, err := tx.ExecContext(ctx, `insert into pds_bytes (digest, media_type, body, size, used) values ($1, $2, $3, $4, $5)
		on conflict (digest) do update set used = $5`, string(d), c.mediaType, c.bytes, len(c.bytes), b.clock().Unix())
	return err
}

// trim drops the oldest bytes when the cache is over its limit.
func (b *bodies) trim(ctx context.Context) error {
	var total sql.NullInt64
	if err := b.db.Read().QueryRowContext(ctx, `select sum(size) from pds_bytes`).Scan(&total); err != nil {
		return fmt.Errorf("size of the manifest cache: %w", sqlx.Wrap(err))
	}
	for over := total.Int64 - b.limit; over > 0; {
		var freed sql.NullInt64
		err := sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error {
			const oldest = `select digest from pds_bytes order by used limit 10`
			if err := tx.QueryRowContext(ctx, `select sum(size) from pds_bytes where digest in (`+oldest+`)`).Scan(&freed); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `delete from pds_bytes where digest in (`+oldest+`)`)
			return err
		})
		if err != nil {
			return fmt.Errorf("trim the manifest cache: %w", err)
		}
		if freed.Int64 == 0 {
			return nil
		}
		over -= freed.Int64
	}
	return nil
}
