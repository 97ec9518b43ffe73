package repo_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// The mistakes of a first program are refused by errors that say what is wanted.
func TestMistakesSayWhatIsWanted(t *testing.T) {
	t.Parallel()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Open(t.Context(), memstore.New(), repo.Options{DID: "hold", Key: key}); !errors.Is(err, repo.ErrInvalidOptions) ||
		!strings.Contains(err.Error(), "did:web:") {
		t.Errorf("DID: %v", err)
	}
	store := memstore.New()
	r, err := repo.Open(t.Context(), store, repo.Options{DID: "did:web:hold.example.com", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	good, err := repo.RecordFromJSON([]byte(`{"$type":"io.atcr.tag"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		collection, rkey, record, want string
	}{
		{"tag", "a", string(good), "as in io.atcr.tag"},
		{"io.atcr.tag", "a/b", string(good), "1 to 512 characters"},
		{"io.atcr.tag", "", string(good), "RKey is missing"},
		{"io.atcr.tag", "a", `{"$type":"io.atcr.tag"}`, "RecordFromJSON"},
		{"io.atcr.tag", "a", "", "Record is empty"},
		{"io.atcr.tag", "a", "\x80", "a record is a map"},
	} {
		_, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Put, Collection: tt.collection, RKey: tt.rkey, Record: []byte(tt.record)}})
		if !errors.Is(err, repo.ErrInvalidRecord) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q %q %q: %v, want %q", tt.collection, tt.rkey, tt.record, err, tt.want)
		}
	}
	for _, bad := range []string{`[1]`, ` "x"`, `7`, `null`} {
		if _, err := repo.RecordFromJSON([]byte(bad)); !errors.Is(err, repo.ErrInvalidRecord) || !strings.Contains(err.Error(), "JSON object") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Open(t.Context(), store, repo.Options{DID: "did:web:other.example", Key: key}); !errors.Is(err, repo.ErrCorrupt) ||
		!strings.Contains(err.Error(), "open it by that DID") {
		t.Errorf("another's store: %v", err)
	}
}
