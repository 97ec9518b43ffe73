package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
)

// The machine with the hold is lost while images are pushed, and comes back from the newest of its scheduled backups: as the
// same DID, with the crew, the layer records and the quotas that it had then; what was pushed before pulls, what is pushed
// next is taken by the relay that has followed it all along.
func TestMachineLost(t *testing.T) {
	t.Parallel()
	for name, layers := range map[string]bool{"with layers": true, "layers kept elsewhere": false} {
		t.Run(name, func(t *testing.T) { machineLost(t, layers) })
	}
}

func machineLost(t *testing.T, layers bool) {
	key := must(age.GenerateX25519Identity())(t)
	keyFile, target := filepath.Join(t.TempDir(), "key.txt"), filepath.Join(t.TempDir(), "backups")
	if err := os.WriteFile(keyFile, []byte(key.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	s := startServices(t, servicesOptions{
		PLC: true, Crew: map[string][]string{"bob": {"blob:read"}},
		Hold: func(c map[string]any) {
			c["backup"] = map[string]any{"every": "1s", "to": target, "keep": 5, "layers": layers, "recipient": key.Recipient().String()}
			if !layers {
				c["storage"].(map[string]any)["path"] = elsewhere
			}
		},
	})
	relay := realtest.Relay(t, realtest.RelayOptions{PLC: s.net.PLC, Hosts: []string{strings.TrimPrefix(s.Hold, "http://")}})
	seen := watch(t, s.Hold)

	p := startPushing(t, s)
	// Four pushes, then a set that was begun after them, and one more push that it can't know.
	var enough string
	var then int
	must(0, realtest.WaitFor(time.Minute, func() error {
		acked := p.count()
		if enough == "" && acked >= 4 {
			enough, then = time.Now().UTC().Format("20060102T150405.000000Z"), acked
		}
		if sets := wholeSets(t, target); enough == "" || len(sets) < 3 || slices.Max(sets) <= enough || acked <= then {
			return fmt.Errorf("%d sets, %d pushes", len(sets), acked)
		}
		return nil
	}))(t)
	_ = s.hold.Kill()
	p.stop()
	if err := os.RemoveAll(filepath.Join(s.dir, "hold")); err != nil {
		t.Fatal(err)
	}
	set := slices.Max(wholeSets(t, target))
	saved := readSet(t, filepath.Join(target, "sets", set))

	// The DID is known, and the directory's log names the key that signed the set. It is older than two seconds.
	restore := exec.Command(s.holdPath, "restore", "--config", filepath.Join(s.dir, "hold.yaml"), "--age-key", keyFile, "--older", target)
	restore.Env = append(os.Environ(), "HOLD_IDENTITY_DID="+s.HoldDID)
	if out, err := restore.CombinedOutput(); err != nil || !strings.Contains(string(out), "restored into") ||
		strings.Contains(string(out), "warning") {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	s.startHold(t)
	t.Logf("set %s: %d records, %d pushes before the loss, events up to %d", set, len(saved.records), p.count(), seen.Load())

	if got := holdRecords(t, s); !maps.Equal(got, saved.records) {
		t.Errorf("the restored hold has the records\n%v\nthe backup\n%v", got, saved.records)
	}
	if got := usage(t, s); got != saved.usage {
		t.Errorf("alice's usage is %d, the backup's records add up to %d", got, saved.usage)
	}
	checkPulls(t, s, p.acked, saved)
	checkFollowers(t, s, relay, seen.Load())
}

// checkPulls pulls by digest what the backup knows whole.
func checkPulls(t *testing.T, s *services, acked map[string]*realtest.ImageFile, saved *savedSet) {
	t.Helper()
	pulled := 0
	crane := realtest.NewCrane(t, s.anonymous())
	for tag, img := range acked {
		if slices.ContainsFunc(img.Blobs, func(d string) bool { return !saved.layers[d] }) {
			continue // pushed after the backup
		}
		pulled++
		if got := must(crane.Pull(s.ref("lost", "@"+img.Digest)))(t); got != img.Digest {
			t.Errorf("%s is %s, want %s", tag, got, img.Digest)
		}
	}
	if pulled < 2 {
		t.Errorf("%d images were pushed before the backup, of %d", pulled, len(acked))
	}
}

// checkFollowers pushes once more: the number of the first event is above all that were seen, and the relay passes it on.
func checkFollowers(t *testing.T, s *services, relay *realtest.RelayServer, seen int64) {
	t.Helper()
	direct, passed := realtest.Subscribe(t, s.Hold, seen), realtest.Subscribe(t, relay.URL, 0)
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 7777})
	must(realtest.NewCrane(t, s.Login).Push(img, s.ref("lost", ":after")))(t)
	eventually(t, func() error { return s.holdKnows("lost", img.Digest, img.Blobs) })
	last := seen
	rev := ""
	for rev == "" {
		e, err := direct.Next(startLimit)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "#info" {
			continue
		}
		if e.Seq <= last {
			t.Fatalf("event %s has number %d after %d", e.Kind, e.Seq, last)
		}
		if last = e.Seq; e.Kind == "#commit" && slices.ContainsFunc(paths(e),
			func(p string) bool { return strings.HasPrefix(p, "io.atcr.hold.layer/") }) {
			rev = e.Commit.Rev
		}
	}
	for {
		e, err := passed.Next(startLimit)
		if err != nil {
			t.Fatalf("the relay does not pass on revision %s: %v; it says %+v", rev, err, relay.Complaints())
		}
		if e.Kind == "#commit" && e.DID == s.HoldDID && e.Commit.Rev == rev {
			break
		}
	}
	for _, c := range relay.Complaints() {
		t.Errorf("the relay complains: %+v", c)
	}
}

func paths(e realtest.Event) (out []string) {
	for _, op := range e.Commit.Ops {
		out = append(out, op.Path)
	}
	return out
}

// watch follows a hold until it is gone and returns the highest number it saw.
func watch(t *testing.T, server string) *atomic.Int64 {
	t.Helper()
	var highest atomic.Int64
	sub := realtest.Subscribe(t, server, 0)
	go func() {
		for {
			e, err := sub.Next(time.Minute)
			if err != nil {
				return
			}
			highest.Store(max(highest.Load(), e.Seq))
		}
	}()
	return &highest
}

// pushing pushes one image after the other.
type pushing struct {
	mu    sync.Mutex
	acked map[string]*realtest.ImageFile
	end   chan struct{}
	wg    sync.WaitGroup
}

func startPushing(t *testing.T, s *services) *pushing {
	p := &pushing{acked: map[string]*realtest.ImageFile{}, end: make(chan struct{})}
	p.wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-p.end:
				return
			default:
			}
			img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: uint64(5000 + i)})
			if err := pushOnce(img, s.ref("lost", fmt.Sprintf(":v%d", i)), s.Login); err == nil {
				p.mu.Lock()
				p.acked[fmt.Sprintf(":v%d", i)] = img
				p.mu.Unlock()
			}
		}
	})
	t.Cleanup(p.stop)
	return p
}

func (p *pushing) stop() {
	p.mu.Lock()
	select {
	case <-p.end:
	default:
		close(p.end)
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *pushing) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.acked)
}

func wholeSets(t *testing.T, target string) (names []string) {
	t.Helper()
	for _, m := range must(filepath.Glob(filepath.Join(target, "sets", "*", "manifest.json")))(t) {
		names = append(names, filepath.Base(filepath.Dir(m)))
	}
	return names
}

// savedSet is what a set says, read without the code that wrote it but for the CAR.
type savedSet struct {
	records map[string]string // path to CID
	layers  map[string]bool   // digests
	usage   int64             // of unique digests
}

func readSet(t *testing.T, dir string) *savedSet {
	t.Helper()
	f := must(os.Open(filepath.Join(dir, "repo.car")))(t)
	defer f.Close()
	car := must(repo.OpenCAR(t.Context(), repo.Source{Reader: f, AnyKey: true}))(t)
	defer car.Close()
	s := &savedSet{records: map[string]string{}, layers: map[string]bool{}}
	for rec, err := range car.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		s.records[rec.Path()] = rec.CID.String()
		if rec.Collection != "io.atcr.hold.layer" {
			continue
		}
		var l struct {
			Digest string
			Size   int64
		}
		if err := json.Unmarshal(must(rec.JSON())(t), &l); err != nil {
			t.Fatal(err)
		}
		if !s.layers[l.Digest] {
			s.usage += l.Size
		}
		s.layers[l.Digest] = true
	}
	return s
}

// holdRecords are all records of the running hold, by its own API.
func holdRecords(t *testing.T, s *services) map[string]string {
	t.Helper()
	var about struct{ Collections []string }
	if err := xrpc(t, s.Hold, "com.atproto.repo.describeRepo", url.Values{"repo": {s.HoldDID}}, &about); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range about.Collections {
		for _, r := range must(realtest.ListRecords(t.Context(), s.Hold, s.HoldDID, c))(t) {
			out[strings.TrimPrefix(r.URI, "at://"+s.HoldDID+"/")] = r.CID
		}
	}
	return out
}

// usage asks the hold as alice.
func usage(t *testing.T, s *services) int64 {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.Hold+"/xrpc/io.atcr.hold.getQuota?userDid="+
		url.QueryEscape(s.DID), nil))(t)
	req.Header.Set("Authorization", "Bearer "+s.net.ServiceAuth(t, "alice", s.HoldDID, "io.atcr.hold.getQuota"))
	resp := must(http.DefaultClient.Do(req))(t)
	defer resp.Body.Close()
	var out struct {
		TotalSize *int64
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.TotalSize == nil {
		t.Fatalf("getQuota: %s, %v", resp.Status, errors.Join(err))
	}
	return *out.TotalSize
}
