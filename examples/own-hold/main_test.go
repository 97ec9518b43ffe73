package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	owndriver "github.com/atcr-dev/atcr/examples/own-driver"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/storage"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }

func TestSQLite(t *testing.T) { testHold(t, filepath.Join(t.TempDir(), "db", "own.db")) }

func TestPostgres(t *testing.T) { testHold(t, realtest.Postgres(t).Database(t)) }

// testHold runs the program twice on one database: the second time it is the same hold, whose data folder has no tables.
func testHold(t *testing.T, database string) {
	data, layers := t.TempDir(), t.TempDir()
	layer := put(t, layers, "a layer")
	var did string
	for range 2 {
		var logs buffer
		ctx, stop := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- run(ctx, []string{
				"--addr", "127.0.0.1:0", "--data", data, "--layers", layers, "--database", database, "--owner", "did:web:captain.test", "--test-mode",
			}, w, &logs)
		}()
		line := make(chan string, 1)
		go func() {
			text, _ := bufio.NewReader(r).ReadString('\n')
			line <- text
		}()
		var fields []string
		select {
		case text := <-line:
			fields = strings.Fields(text)
		case err := <-done:
			t.Fatalf("%v; %s", err, &logs)
		}
		if did == "" {
			did = fields[1]
		}
		base := fields[len(fields)-1]
		if body := get(t, base+"/.well-known/did.json"); !strings.Contains(body, `"`+did+`"`) {
			t.Errorf("document of %s: %s", did, body)
		}
		if body := get(t, base+"/hello"); !strings.Contains(body, "layers") {
			t.Errorf("the other route: %s", body)
		}
		query := url.Values{"did": {did}, "cid": {layer.String()}}
		if body := get(t, base+redirect(t, base+"/xrpc/com.atproto.sync.getBlob?"+query.Encode())); body != "a layer" {
			t.Errorf("the driver's layer: %q", body)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(logs.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("the logger was not given on: %s", line)
			}
		}
	}
	if files, err := filepath.Glob(filepath.Join(data, "*.db")); err != nil || len(files) > 0 {
		t.Errorf("tables in the data folder: %v, %v", files, err)
	}
}

// put keeps a blob by the driver.
func put(t *testing.T, dir, text string) digest.Digest {
	t.Helper()
	driver, err := owndriver.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	up, err := driver.Create(t.Context(), storage.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(up, text); err != nil {
		t.Fatal(err)
	}
	info, err := up.Commit(t.Context(), digest.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	return info.Digest
}

// redirect is where a URL leads to, as path and query: the hold names its PublicURL, where nothing listens here.
func redirect(t *testing.T, from string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, from, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		t.Fatalf("%s: %s, %v", from, resp.Status, err)
	}
	return to.RequestURI()
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", url, resp.Status, body, err)
	}
	return string(body)
}

// buffer takes the log lines of many goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
