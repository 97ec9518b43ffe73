package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

func scrypt(t testing.TB, pass string) (age.Recipient, age.Identity) {
	t.Helper()
	r, err := age.NewScryptRecipient(pass)
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(8)
	i, err := age.NewScryptIdentity(pass)
	if err != nil {
		t.Fatal(err)
	}
	return r, i
}

// made is an identity that no directory has heard of.
func made(t testing.TB, method string) identity.Config {
	t.Helper()
	cfg := identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com", Method: method, PLCURL: "http://127.0.0.1:1",
		TestMode: true, Services: identity.HoldServices()}
	if _, err := identity.LoadOrCreateDID(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestExportImport(t *testing.T) {
	to, by := scrypt(t, "right")
	_, wrong := scrypt(t, "wrong")
	for _, method := range []string{"web", "plc"} {
		t.Run(method, func(t *testing.T) {
			cfg := made(t, method)
			want, err := identity.Load(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if method == "plc" { // a rotation that is not finished
				if _, _, err := plclog.LoadOrCreateKey(filepath.Join(cfg.Dir, "keys", "signing.key.next"), ""); err != nil {
					t.Fatal(err)
				}
			}
			var file bytes.Buffer
			if err := Export(&file, cfg, to); err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{want.Key.Multibase(), want.DID.String()} {
				if strings.Contains(file.String(), secret) {
					t.Error("a secret is readable in the file")
				}
			}
			fresh := cfg
			fresh.Dir = filepath.Join(t.TempDir(), "new")
			if _, err := Import(bytes.NewReader(file.Bytes()), fresh, wrong); !errors.Is(err, ErrDecrypt) {
				t.Errorf("by the wrong passphrase: %v", err)
			}
			for _, at := range []int{10, file.Len() / 2, file.Len() - 1} {
				cut := file.Bytes()[:at]
				if _, err := Import(bytes.NewReader(cut), fresh, by); !errors.Is(err, ErrDecrypt) {
					t.Errorf("cut at %d: %v", at, err)
				}
			}
			if _, err := os.Stat(fresh.Dir); err == nil {
				t.Error("a refused import made the folder")
			}
			for range 2 { // the second time it is there already
				did, err := Import(bytes.NewReader(file.Bytes()), fresh, by)
				if err != nil || did != want.DID {
					t.Fatal(did, err)
				}
			}
			got, err := identity.Load(fresh)
			if err != nil || got.DID != want.DID || !got.Key.Equal(want.Key) {
				t.Fatalf("%+v, %v", got, err)
			}
			history, err := os.ReadFile(filepath.Join(cfg.Dir, "keys", "history"))
			if err != nil {
				t.Fatal(err)
			}
			if has, err := os.ReadFile(filepath.Join(fresh.Dir, "keys", "history")); err != nil || !bytes.Equal(has, history) {
				t.Errorf("history of signing keys %q, want %q, %v", has, history, err)
			}
			if method == "plc" && (!got.Rotation.Equal(want.Rotation) || !exists(fresh.Dir, "genesis.json") ||
				!exists(fresh.Dir, "keys/signing.key.next")) {
				t.Error("rotation key, genesis or next key are lost")
			}
			other := made(t, method)
			if _, err := Import(bytes.NewReader(file.Bytes()), other, by); method == "plc" && !errors.Is(err, ErrOccupied) {
				t.Errorf("over another identity: %v", err)
			} else if method == "web" && !errors.Is(err, ErrOccupied) { // the same name, other keys
				t.Errorf("over other keys: %v", err)
			}
		})
	}
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func FuzzContents(f *testing.F) {
	cfg := made(f, "plc")
	to, by := scrypt(f, "x")
	var file bytes.Buffer
	if err := Export(&file, cfg, to); err != nil {
		f.Fatal(err)
	}
	dec, err := age.Decrypt(&file, by)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := io.ReadAll(dec)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add([]byte(`{"format":"atcr-identity-1","did":"did:web:a.b","secrets":{"signing":"","../x":"z"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, did, err := parse(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice, err := parse(again); err != nil || twice != did {
			t.Fatalf("%s, then %s, %v", did, twice, err)
		}
	})
}
