package holdcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestRotateBesideNoHold: who has the folder does not rotate keys. While it goes on the command says what waits where, and when it ends the
// command does the rotation itself, with the key that was made.
func TestRotateBesideNoHold(t *testing.T) {
	ctx := t.Context()
	r := &rotateRun{&identityRun{conf: config.DefaultHold(), std: &cli.IO{Out: &bytes.Buffer{}}}, &rotateCommand{Signing: true, Type: "k256"}}
	cfg := hold.Config{Dir: t.TempDir(), PublicURL: "http://localhost:1", OwnerDID: "did:web:owner.test", TestMode: true,
		Log: slog.New(slog.DiscardHandler)}
	var err error
	if r.dir, err = cfg.DataDir(); err != nil {
		t.Fatal(err)
	}
	r.cfg = r.dir.Identity
	server, err := hold.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := r.manager()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := durable.LockDir(r.dir.Dir)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	err = r.run(short, m)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(),
		fmt.Sprintf("(process %d) has not taken it into use", os.Getpid())) {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir.Dir, "keys", "signing.key.next")
	next, err := plc.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	asked := m.RotationRequested()
	done := make(chan error, 1)
	go func() { done <- r.run(ctx, m) }()
	err = realtest.WaitFor(time.Minute, func() error {
		if m.RotationRequested().Equal(asked) {
			return errors.New("it did not ask again")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	after, err := identity.Load(r.cfg)
	if err != nil || !after.Key.Equal(next) {
		t.Errorf("the key is not the one that was asked for: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("left over: %v", err)
	}
	o, err := datadir.ReadRepo(ctx, r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close() //nolint:errcheck // nothing was written
	if signed, err := o.Repo.Signed(ctx); err != nil || !signed {
		t.Errorf("followers were not told: %v", err)
	}
}
