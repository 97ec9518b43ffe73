package appview_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry/appview"
)

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestBindsFirst: a port that is taken, and a database that is none, are found before keys are made; the AppView says that it serves
// when it does.
func TestBindsFirst(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, breakIt := range map[string]func(*appview.Config){
		"port": func(c *appview.Config) { c.Addr = taken.Addr().String() },
		"database": func(c *appview.Config) {
			if err := os.WriteFile(filepath.Join(c.Dir, "appview.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		log := &lines{}
		cfg := appview.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0", BaseURL: "https://registry.example.com",
			DefaultHold: "did:web:hold.example.com", Log: slog.New(slog.NewTextHandler(log, nil))}
		breakIt(&cfg)
		if app, err := appview.New(t.Context(), cfg); err == nil {
			app.Close()
			t.Errorf("%s: it started", name)
		}
		for _, made := range []string{"did.txt", "keys", "auth/private-key.pem"} {
			if _, err := os.Stat(filepath.Join(cfg.Dir, made)); err == nil {
				t.Errorf("%s: %s was made", name, made)
			}
		}
		if strings.Contains(log.String(), "serving") {
			t.Errorf("%s: %s", name, log)
		}
	}

	log := &lines{}
	app, err := appview.New(t.Context(), appview.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0", DefaultHold: "did:web:hold.example.com",
		Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if strings.Contains(log.String(), "serving") {
		t.Errorf("before Run: %s", log)
	}
	go func() { _ = app.Run(t.Context()) }()
	addr := ""
	err = realtest.WaitFor(10*time.Second, func() error {
		_, rest, ok := strings.Cut(log.String(), "msg=serving addr=")
		if !ok {
			return fmt.Errorf("it does not say that it serves:\n%s", log)
		}
		addr, _, _ = strings.Cut(rest, " ")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
