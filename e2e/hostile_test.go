package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"math"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/hostile"
)

// What each server may take while it is attacked.
const (
	attackedMemory = 200 << 20 // resident, most of all the time
	attackedDisk   = 2 << 30   // both data folders together
	attackedLog    = 1 << 20   // bytes a minute
)

// TestUnderAttack lets 200 owners whose PDSes and holds misbehave, and clients at 50 addresses who ask for them, at an AppView and a hold
// for a minute, while a person pushes and pulls: all that succeeds, and memory, disk and log of both servers stay bounded. In the long
// campaign it takes ten minutes, and the person is at most twice as slow as alone.
func TestUnderAttack(t *testing.T) {
	t.Parallel()
	long := os.Getenv("ATCR_LONG") != ""
	attack, alone := time.Minute, 10*time.Second
	if long {
		attack, alone = 10*time.Minute, time.Minute
	}
	u := startUnderAttack(t)
	quiet := u.person(t, alone)

	ctx, cancel := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	for i := range 50 {
		attackers.Go(func() { u.attack(ctx, fmt.Sprintf("127.0.0.%d", 2+i), mrand.New(mrand.NewPCG(7, uint64(i)))) })
	}
	written := [2]int64{u.logged[0].Load(), u.logged[1].Load()}
	attacked := u.person(t, attack)
	cancel()
	attackers.Wait()

	t.Logf("requests of 50 addresses, by answer: %v", u.answers)
	for _, what := range []string{"push", "pull", "pull of another's"} {
		a, b := quiet[what], attacked[what]
		t.Logf("%-18s alone: %4d, p50 %v, p95 %v; attacked: %4d, p50 %v, p95 %v", what, len(a), quantile(a, 0.5), quantile(a, 0.95), len(b),
			quantile(b, 0.5), quantile(b, 0.95))
		if long && quantile(b, 0.95) > 2*quantile(a, 0.95) {
			t.Logf("%s: p95 is %.1f times that of alone, 2 is wanted", what, float64(quantile(b, 0.95))/float64(quantile(a, 0.95)))
		}
		if len(b) == 0 {
			t.Errorf("%s: none succeeded", what)
		}
	}
	for i, p := range []*realtest.Process{u.app, u.hold} {
		name := []string{"appview", "hold"}[i]
		if peak := peakMemory(t, p.Pid()); peak > attackedMemory {
			t.Errorf("%s took %d MB", name, peak>>20)
		} else {
			t.Logf("%s: at most %d MB of memory", name, peak>>20)
		}
		perMinute := float64(u.logged[i].Load()-written[i]) / attack.Minutes()
		t.Logf("%s: %.0f KB of log a minute", name, perMinute/1e3)
		if perMinute > attackedLog {
			t.Errorf("%s wrote %.1f MB of log a minute", name, perMinute/1e6)
		}
		if n := u.errors[i].Load(); n > 0 {
			t.Errorf("%s logged %d errors, the first: %s", name, n, u.firstError[i].Load())
		}
	}
	size := folderSize(t, u.dir)
	t.Logf("%d MB on the disk", size>>20)
	if size > attackedDisk {
		t.Errorf("%d MB on the disk", size>>20)
	}
}

// attacked are services among attackers.
type attacked struct {
	*services
	net      *hostile.Network
	hostiles []hostile.Owner
	honest   hostile.Owner // on the attackers' network, but well behaved

	logged     [2]atomic.Int64 // bytes: AppView, hold
	errors     [2]atomic.Int64
	firstError [2]atomic.Value

	mu      sync.Mutex
	answers map[string]int
}

func startUnderAttack(t *testing.T) *attacked {
	t.Helper()
	u := &attacked{answers: map[string]int{}}
	through := func(section map[string]any) {
		if u.net == nil {
			u.net = hostile.Start(t, hostile.Options{Directory: section["plc_directory_url"].(string)})
		}
		section["plc_directory_url"] = u.net.URL
	}
	u.services = startServices(t, servicesOptions{
		Hold: func(c map[string]any) {
			through(c["identity"].(map[string]any))
			c["registration"].(map[string]any)["allow_all_crew"] = true
		},
		AppView: func(c map[string]any) { through(c["server"].(map[string]any)) },
		Log: func(program, line string) {
			i := 0
			if program == "atcr-hold" {
				i = 1
			}
			u.logged[i].Add(int64(len(line)) + 1)
			if strings.Contains(line, "level=ERROR") && u.errors[i].Add(1) == 1 {
				u.firstError[i].Store(line)
			}
		},
	})
	pds := []hostile.Kind{hostile.Fill, hostile.Endless, hostile.Drip, hostile.Hog, hostile.Trickle, hostile.Flood, hostile.Huge,
		hostile.Broken, hostile.Slow, hostile.Tarpit, hostile.Gone, hostile.Link}
	for i := range 200 {
		p := hostile.Party{PDS: pds[i%len(pds)]}
		if i%4 == 3 { // an honest PDS, whose records name a hold that isn't
			p = hostile.Party{Hold: pds[2+i/4%(len(pds)-2)], Images: 2, Layers: 2}
		}
		u.hostiles = append(u.hostiles, u.net.Add(p))
	}
	u.honest = u.net.Add(hostile.Party{Images: 20, Layers: 2})
	return u
}

// person pushes and pulls one image after the other for a time, and returns how long each took.
func (u *attacked) person(t *testing.T, d time.Duration) map[string][]time.Duration {
	t.Helper()
	took := map[string][]time.Duration{}
	began := time.Now()
	timed := func(what string, do func()) {
		at := time.Now()
		do()
		took[what] = append(took[what], time.Since(at))
	}
	var token string
	var since time.Time
	for i := 0; time.Since(began) < d && !t.Failed(); i++ {
		if time.Since(since) > 4*time.Minute {
			scope := "repository:" + u.name("app") + ":pull,push"
			token, since = registryToken(t, u.Login, scope), time.Now()
		}
		var manifest string
		timed("push", func() { manifest = u.pushSmall(t, token, i) })
		timed("pull", func() { u.pullManifest(t, u.name("app"), manifest) })
		im := u.honest.Images[i%len(u.honest.Images)]
		timed("pull of another's", func() { u.pullManifest(t, u.honest.Name()+"/app", im.Digest) })
	}
	return took
}

// pushSmall pushes an image of one layer of its own, and returns its digest.
func (u *attacked) pushSmall(t *testing.T, token string, i int) string {
	t.Helper()
	base := "http://" + u.Registry + "/v2/" + u.name("app")
	put := func(b []byte) string {
		resp, text := send(t, token, http.MethodPost, base+"/blobs/uploads/", nil)
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("upload: %s: %s", resp.Status, text)
		}
		resp, text = send(t, token, http.MethodPut, withDigest(location(t, resp), sha256Of(b)), b)
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("blob: %s: %s", resp.Status, text)
		}
		return sha256Of(b)
	}
	layer := make([]byte, 20_000)
	_, _ = rand.Read(layer)
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`, sha256Of(layer))
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":"%s"},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":%d,"digest":"%s"}]}`,
		len(config), put(config), len(layer), put(layer))
	resp, text := sendWith(t, token, http.MethodPut, base+"/manifests/t"+strconv.Itoa(i%50), manifest,
		http.Header{"Content-Type": {"application/vnd.oci.image.manifest.v1+json"}})
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("manifest: %s: %s", resp.Status, text)
	}
	return sha256Of(manifest)
}

func (u *attacked) pullManifest(t *testing.T, name, digest string) {
	t.Helper()
	anonymous := registryToken(t, u.anonymous(), "repository:"+name+":pull")
	if resp, text := send(t, anonymous, http.MethodGet, "http://"+u.Registry+"/v2/"+name+"/manifests/"+digest, nil); resp.StatusCode !=
		http.StatusOK || sha256Of([]byte(text)) != digest {
		t.Fatalf("pull of %s: %s: %.300s", name, resp.Status, text)
	}
}

// attack asks from an address for what costs most, and goes away at random.
func (u *attacked) attack(ctx context.Context, ip string, random *mrand.Rand) {
	c := hostile.ClientAt(ip)
	defer c.CloseIdleConnections()
	for ctx.Err() == nil {
		o := u.hostiles[random.IntN(len(u.hostiles))]
		name := "http://" + u.Registry + "/v2/" + o.Name() + "/app/"
		ref := "v0"
		if len(o.Images) > 0 && random.IntN(2) == 0 {
			ref = o.Images[0].Digest
		}
		attempts := []func(context.Context){
			func(ctx context.Context) { u.ask(ctx, c, "GET", name+"tags/list", nil) },
			func(ctx context.Context) { u.ask(ctx, c, "GET", name+"manifests/"+ref, nil) },
			func(ctx context.Context) { u.ask(ctx, c, "GET", name+"blobs/"+hostile.LinkDigest(random.IntN(5)), nil) },
			func(ctx context.Context) {
				u.ask(ctx, c, "GET", "http://"+u.Registry+"/v2/did_web_localhost/app/tags/list", nil)
			},
			func(ctx context.Context) {
				u.ask(ctx, c, "GET", "http://"+u.Registry+"/auth/token?service=x&scope=repository:"+o.Name()+"/app:pull", nil)
			},
			func(ctx context.Context) { // its PDS takes every password
				u.ask(ctx, c, "GET", "http://"+u.Registry+"/auth/token?service=x&scope=repository:"+o.Name()+"/app:pull,push",
					func(r *http.Request) { r.SetBasicAuth(o.Name(), strconv.Itoa(random.Int())) })
			},
			func(ctx context.Context) {
				q := "?did=" + u.HoldDID
				u.ask(ctx, c, "GET", u.Hold+"/xrpc/com.atproto.sync.getBlocks"+q+"&cids="+noBlock(random), nil)
			},
			func(ctx context.Context) {
				u.ask(ctx, c, "GET", u.Hold+"/xrpc/com.atproto.sync.getRepo?did="+u.HoldDID, nil)
			},
			func(ctx context.Context) {
				u.ask(ctx, c, "PUT", u.Hold+"/xrpc/io.atcr.hold.uploadPart?uploadId=none&partNumber=2", nil)
			},
			func(ctx context.Context) { stall(ctx, ip, strings.TrimPrefix(u.Hold, "http://")) },
			func(ctx context.Context) { stall(ctx, ip, u.Registry) },
		}
		patience := time.Duration(500+random.IntN(3000)) * time.Millisecond
		limited, cancel := context.WithTimeout(ctx, patience)
		attempts[random.IntN(len(attempts))](limited)
		cancel()
		select { // the attackers share the machine with whom they attack
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// ask sends a request and throws its answer away.
func (u *attacked) ask(ctx context.Context, c *http.Client, method, url string, change func(*http.Request)) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return
	}
	if change != nil {
		change(req)
	}
	answer := "hung up"
	if resp, err := c.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		answer = strconv.Itoa(resp.StatusCode)
	}
	u.mu.Lock()
	u.answers[answer]++
	u.mu.Unlock()
}

// stall begins a request that is never sent whole.
func stall(ctx context.Context, ip, addr string) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /v2/x/y/blobs/uploads/ HTTP/1.1\r\nHost: "+addr+"\r\nContent-Length: 1000000\r\n\r\n")
	<-ctx.Done()
}

// noBlock is the CID of nothing that is there.
func noBlock(random *mrand.Rand) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := []byte("bafyrei")
	for range 51 {
		b = append(b, letters[random.IntN(32)])
	}
	return string(b) + "a"
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return d[min(int(math.Ceil(q*float64(len(d)))), len(d))-1].Round(time.Millisecond)
}

// peakMemory is the most that a process ever had resident.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatalf("VmHWM: %v", err)
	}
	return kb << 10
}

func folderSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if fi, err := d.Info(); err == nil {
				size += fi.Size()
			}
		}
		return nil // what is removed meanwhile is nobody's
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
