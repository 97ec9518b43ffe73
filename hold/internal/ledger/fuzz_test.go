package ledger_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// FuzzReadManifests: what is restored of a backup's notes is written again as the same, and an error leaves nothing.
func FuzzReadManifests(f *testing.F) {
	db, err := sqlite.Open(f.Context(), filepath.Join(f.TempDir(), "hold.db"))
	if err == nil {
		err = schema.Migrate(f.Context(), db)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	const line = `{"did":"did:web:a.example","repository":"app","digest":"sha256:x","uri":"at://did:web:a.example/io.atcr.manifest/x"}` + "\n"
	for _, s := range []string{"", line, line + line, line + "{", line + `{"did":7}`, `null`, `[]`, "{}\n{}", strings.Repeat(line, 50), `{"did":"\u0000"}`,
		`{"DID":"a"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ctx := t.Context()
		if _, err := db.Write().ExecContext(ctx, `delete from hold_manifest`); err != nil {
			t.Fatal(err)
		}
		rerr := ledger.ReadManifests(ctx, db, bytes.NewReader(text))
		var once, twice bytes.Buffer
		if err := ledger.WriteManifests(ctx, db, &once); err != nil {
			t.Fatal(err)
		}
		if rerr != nil {
			if once.Len() > 0 {
				t.Fatalf("%v, and it left %q", rerr, once.Bytes())
			}
			return
		}
		if err := ledger.ReadManifests(ctx, db, bytes.NewReader(once.Bytes())); err != nil {
			t.Fatalf("%q is written, and can't be read: %v", once.Bytes(), err)
		}
		if err := ledger.WriteManifests(ctx, db, &twice); err != nil || !bytes.Equal(once.Bytes(), twice.Bytes()) {
			t.Fatalf("%q became %q, %v", once.Bytes(), twice.Bytes(), err)
		}
	})
}
