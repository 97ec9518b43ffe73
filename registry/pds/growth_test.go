package pds

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// TestLookupsUseIndexes asks the database how it would answer: no lookup may go through a table.
func TestLookupsUseIndexes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b, err := New(ctx, Options{DB: db, Directory: identity.NewMockDirectory()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = sqlx.InTx(ctx, db.Write(), func(tx *sql.Tx) error {
		for i := range 2000 {
			d := digest.FromString(fmt.Sprint(i))
			m := manifestRow{RKey: d.Encoded(), CID: "c", Repository: "app", Digest: d, Hold: "did:web:h", LayersKnown: true,
				Layers: []layer{{d, 1}}}
			if err := writeManifest(ctx, tx, "did:plc:a", 1, 1, m); err != nil {
				return err
			}
			if err := writeTag(ctx, tx, "did:plc:a", 1, tagRow{RKey: fmt.Sprint("app_", i), Repository: "app", Tag: fmt.Sprint(i),
				ManifestRKey: m.RKey}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]string{
		"tag page":     queryTagPage,
		"tag":          `select ` + tagColumns + ` from pds_tag where owner = $1 and repository = $2 and tag = $3 order by stamp desc, rkey desc limit 1`,
		"manifest":     `select ` + manifestColumns + ` from pds_manifest where owner = $1 and repository = $2 and digest = $3`,
		"tags of":      queryTagsOf,
		"referrers":    `select ` + manifestColumns + ` from pds_manifest where owner = $1 and repository = $2 and subject = $3 and digest > $4 order by digest limit 10`,
		"places":       `select hold, max(size) from pds_layer where owner = $1 and repository = $2 and digest = $3 group by hold`,
		"holds":        queryNextHold,
		"large":        `select ` + manifestColumns + ` from pds_manifest where owner = $1 and repository = $2 and layers_known = 0 limit 1000`,
		"layers gone":  `delete from pds_layer where owner = $1 and manifest <> '' and (repository, manifest) in (select m.repository, m.digest from pds_manifest m where m.owner = $1 and m.rkey = $2)`,
		"due intents":  `select * from pds_intent where state in ($1, $2) and next_try <= $3 order by next_try limit 1000`,
		"old uploads":  `select id from pds_upload where touched < $1 order by touched limit 100`,
		"known name":   `select did from pds_name where name = $1`,
		"cached bytes": `select body from pds_bytes where digest = $1`,
	} {
		rows, err := db.Read().QueryContext(ctx, `explain query plan `+strings.Replace(q, "delete from", "select * from", 1), "did:plc:a",
			"app", "1", 10)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for rows.Next() {
			var id, parent, x int
			var detail string
			if err := rows.Scan(&id, &parent, &x, &detail); err != nil {
				t.Fatal(err)
			}
			t.Log(name, ": ", detail)
			// Owner and repository alone would find all that there is in one.
			all := strings.HasSuffix(detail, "(owner=?)") || strings.HasSuffix(detail, "(owner=? AND repository=?)")
			if strings.HasPrefix(detail, "SCAN") && !strings.Contains(detail, "subquery") || all {
				t.Errorf("%s: %s", name, detail)
			}
		}
		rows.Close()
	}
}
