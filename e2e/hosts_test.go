package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/goccy/go-yaml"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// world is the network as it ships, on hosts of its own: PLC directory and PDS on one, two holds on the second, the AppView on the
// third, and a client that has DNS and the authority's certificate. No test mode: https and names; private addresses are allowed
// by network.allow.
type world struct {
	hosts   *realtest.Hosts
	net     *realtest.Net
	client  *http.Client // on the client's host
	dir     identity.Directory
	plcHold syntax.DID

	appView, database string // the AppView's files: configuration, SQLite
}

func startWorld(t *testing.T) *world {
	t.Helper()
	hosts := realtest.NewHosts(t, "home", "hold", "registry", "client")
	home, hold, registry := hosts.Host("home"), hosts.Host("hold"), hosts.Host("registry")
	names := map[string]string{"plc.test": home.IP, "pds.test": home.IP, "alice.test": home.IP, "hold.test": hold.IP,
		"plc-hold.test": hold.IP, "registry.atcr-tests.net": registry.IP}
	hosts.DNS(t, names, nil)
	home.TLS(t, map[string]int{"pds.test": realtest.PDSPort, "alice.test": realtest.PDSPort, "plc.test": realtest.PLCPort})
	w := &world{hosts: hosts, client: hosts.Host("client").Client(t)}
	w.net = realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice", "carol", "dave"}, On: home, Hostname: "pds.test",
		PLCName: "plc.test"})
	hosts.DNS(t, names, map[string]string{ // dave has no proof at all; mallory calls alice's account hers
		"_atproto.carol.test":   "did=" + w.net.Account("carol").DID,
		"_atproto.mallory.test": "did=" + w.net.Account("alice").DID,
	})
	w.dir = identity.NewResolver(identity.ResolverOptions{HTTP: w.client, DNS: hosts.Host("client").Resolver(), PLCURL: w.net.PLC})

	hold.TLS(t, map[string]int{"hold.test": 8080, "plc-hold.test": 8081})
	for port, c := range map[int][2]string{8080: {"hold.test", "web"}, 8081: {"plc-hold.test", "plc"}} {
		data := t.TempDir()
		w.start(t, hold, "./cmd/atcr-hold", "https://"+c[0]+"/xrpc/_health", map[string]any{
			"server":       map[string]any{"addr": fmt.Sprintf("127.0.0.1:%d", port), "public_url": "https://" + c[0], "public": true},
			"registration": map[string]any{"owner_did": w.net.Account("alice").DID, "allow_all_crew": true},
			"storage":      map[string]any{"path": filepath.Join(data, "blobs")},
			"database":     map[string]any{"path": data},
			"identity":     map[string]any{"did_method": c[1], "plc_directory_url": w.net.PLC},
			"network":      map[string]any{"allow": []string{"10.77.0.0/24"}},
			"relays":       map[string]any{"endpoints": []string{}},
		})
	}
	data := t.TempDir()
	registry.TLS(t, map[string]int{"registry.atcr-tests.net": 5000})
	w.database = filepath.Join(data, "appview.db")
	w.appView = w.start(t, registry, "./cmd/atcr-appview", "https://registry.atcr-tests.net/health", map[string]any{
		"server": map[string]any{
			"addr": "127.0.0.1:5000", "base_url": "https://registry.atcr-tests.net", // PDSes take no .test as a client of OAuth
			"default_hold_did": "did:web:hold.test", "plc_directory_url": w.net.PLC,
		},
		"ui":      map[string]any{"database_path": w.database},
		"auth":    map[string]any{"key_path": filepath.Join(data, "key.pem"), "cert_path": filepath.Join(data, "cert.pem")},
		"network": map[string]any{"allow": []string{"10.77.0.0/24"}},
	})
	plcHold, err := w.dir.LookupHandle(t.Context(), "plc-hold.test")
	if err != nil {
		t.Fatal(err)
	}
	w.plcHold = plcHold.DID
	return w
}

// start runs a program of ours on a host and waits until the client gets an answer at its public address. It returns the program's
// configuration file.
func (w *world) start(t *testing.T, host *realtest.Host, program, address string, config map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := host.Start(t, realtest.Command{Path: realtest.Build(t, programs, program), Args: []string{"serve", "--config", file}, Dir: dir})
	err = realtest.WaitFor(startLimit, func() error {
		select {
		case <-p.Done():
			t.Fatalf("%s ended:\n%s", program, p.Log())
		default:
		}
		_, err := w.get(address, "")
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Log())
	}
	return file
}

// get asks from the client's host.
func (w *world) get(address, token string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.300s", address, resp.Status, body)
	}
	return body, err
}

// holdRecords lists a collection of a hold at its public address.
func (w *world) holdRecords(host string, did syntax.DID, collection string) ([]realtest.Record, error) {
	q := url.Values{"repo": {did.String()}, "collection": {collection}, "limit": {"100"}}
	body, err := w.get("https://"+host+"/xrpc/com.atproto.repo.listRecords?"+q.Encode(), "")
	if err != nil {
		return nil, err
	}
	var page struct{ Records []realtest.Record }
	return page.Records, json.Unmarshal(body, &page)
}

func (w *world) crane(t *testing.T, name string) *realtest.Crane {
	t.Helper()
	login := realtest.Login{Registry: "registry.atcr-tests.net"}
	if name != "" {
		login.User, login.Password = w.net.Account(name).Handle, w.net.AppPassword(t, name)
	}
	return w.hosts.Host("client").Crane(t, login)
}

// Several hosts with real names, port 443 and TLS.
func TestHosts(t *testing.T) {
	w := startWorld(t)
	t.Run("names", w.names)
	t.Run("hold by name", w.holdByName)
	t.Run("push across", func(t *testing.T) { w.pushAcross(t, "alice", "hold.test", "did:web:hold.test") })
	t.Run("push to a did:plc", func(t *testing.T) {
		carol := w.net.Account("carol")
		err := w.net.Call(t.Context(), http.MethodPost, carol.PDS, "com.atproto.repo.putRecord", w.net.Session(t, "carol"), map[string]any{
			"repo": carol.DID, "collection": "io.atcr.sailor.profile", "rkey": "self", "record": map[string]any{
				"$type": "io.atcr.sailor.profile", "defaultHold": w.plcHold, "createdAt": "2026-01-01T00:00:00Z",
			},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.pushAcross(t, "carol", "plc-hold.test", w.plcHold)
	})
	t.Run("names that nobody confirms", w.refusedNames)
	t.Run("anonymous pulls counted", w.pullsCounted)
}

// names: handle to DID by TXT record and by HTTPS, DID to handle, and both for the holds, whose handles are their hosts.
func (w *world) names(t *testing.T) {
	for handle, did := range map[syntax.Handle]syntax.DID{
		"alice.test": syntax.DID(w.net.Account("alice").DID), "carol.test": syntax.DID(w.net.Account("carol").DID),
		"hold.test": "did:web:hold.test", "plc-hold.test": w.plcHold,
	} {
		who, err := w.dir.LookupHandle(t.Context(), handle)
		if err != nil || who.DID != did || who.Handle != handle {
			t.Errorf("%s is %+v, want %s: %v", handle, who, did, err)
		}
		if who, err = w.dir.LookupDID(t.Context(), did); err != nil || who.Handle != handle {
			t.Errorf("%s calls itself %+v, want %s: %v", did, who, handle, err)
		}
	}
	// By one way each, so that neither stands in for the other.
	if txt, err := w.hosts.Host("client").Resolver().LookupTXT(t.Context(), "_atproto.alice.test"); err == nil {
		t.Errorf("alice.test has a TXT record, too: %q", txt)
	}
	if body, err := w.get("https://carol.test/.well-known/atproto-did", ""); err == nil {
		t.Errorf("carol.test answers HTTPS, too: %q", body)
	}
	if _, err := w.dir.LookupHandle(t.Context(), "mallory.test"); !errors.Is(err, identity.ErrHandleMismatch) {
		t.Errorf("mallory.test, which alice's account doesn't call itself: %v", err)
	}
	if _, err := w.dir.LookupHandle(t.Context(), "dave.test"); !errors.Is(err, identity.ErrHandleNotFound) {
		t.Errorf("dave.test, which has no proof: %v", err)
	}
	if who, err := w.dir.LookupDID(t.Context(), syntax.DID(w.net.Account("dave").DID)); err != nil || who.Handle != syntax.HandleInvalid {
		t.Errorf("dave's account, whose handle nothing proves: %+v %v", who, err)
	}
}

// holdByName: a DID leads to the hold, and the reference PDS mints tokens for it that the hold takes.
func (w *world) holdByName(t *testing.T) {
	alice := w.net.Account("alice").DID
	for host, did := range map[string]syntax.DID{"hold.test": "did:web:hold.test", "plc-hold.test": w.plcHold} {
		who, err := w.dir.LookupDID(t.Context(), did)
		if err != nil {
			t.Fatal(err)
		}
		endpoint := who.GetServiceEndpoint("atcr_hold")
		if endpoint != "https://"+host {
			t.Errorf("%s is at %q", did, endpoint)
		}
		for _, aud := range []string{did.String(), did.String() + "#atcr_hold"} {
			token := w.net.ServiceAuth(t, "alice", aud, "io.atcr.hold.getQuota")
			body, err := w.get(endpoint+"/xrpc/io.atcr.hold.getQuota?userDid="+alice, token)
			if err != nil || !strings.Contains(string(body), alice) {
				t.Errorf("a token for %s: %s %v", aud, body, err)
			}
		}
	}
}

// pushAcross pushes from the client's host, pulls back without sign-in, and finds the records at the PDS and the layers at the hold.
func (w *world) pushAcross(t *testing.T, name, holdHost string, holdDID syntax.DID) {
	who := w.net.Account(name)
	img := realtest.Image(t, realtest.ImageOptions{SizeMB: 2, Layers: 2, Seed: 4400 + uint64(len(holdHost))})
	ref := "registry.atcr-tests.net/" + who.Handle + "/app:v1"
	if pushed := must(w.crane(t, name).Push(img, ref))(t); pushed != img.Digest {
		t.Errorf("pushed %s, want %s", pushed, img.Digest)
	}
	if pulled := must(w.crane(t, "").Pull(ref))(t); pulled != img.Digest {
		t.Errorf("pulled %s, want %s", pulled, img.Digest)
	}
	manifest := find(t, w.net.Records(t, name, "io.atcr.manifest"), map[string]any{"digest": img.Digest, "repository": "app"})
	if manifest.Value["holdDid"] != holdDID.String() {
		t.Errorf("the record names the hold %v", manifest.Value["holdDid"])
	}
	find(t, w.net.Records(t, name, "io.atcr.tag"), map[string]any{"repository": "app", "tag": "v1", "manifest": manifest.URI})
	eventually(t, func() error {
		records, err := w.holdRecords(holdHost, holdDID, "io.atcr.hold.layer")
		if err == nil && len(records) != len(img.Blobs) {
			err = fmt.Errorf("%d layer records, want %d", len(records), len(img.Blobs))
		}
		return err
	})
	for _, digest := range img.Blobs {
		body := must(w.get("https://"+holdHost+"/xrpc/com.atproto.sync.getBlob?did="+who.DID+"&cid="+digest, ""))(t)
		if len(body) == 0 {
			t.Errorf("the hold gives nothing for %s", digest)
		}
	}
}

// refusedNames: an image is not found under a name that its owner's account does not confirm, and nothing is pushed there.
func (w *world) refusedNames(t *testing.T) {
	img := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 4500})
	alice := w.crane(t, "alice")
	must(alice.Pull("registry.atcr-tests.net/alice.test/app:v1"))(t)
	for _, name := range []string{"mallory.test", "dave.test"} {
		if d, err := w.crane(t, "").Pull("registry.atcr-tests.net/" + name + "/app:v1"); err == nil {
			t.Errorf("pulled %s of %s", d, name)
		}
		if _, err := alice.Push(img, "registry.atcr-tests.net/"+name+"/app:v2"); err == nil {
			t.Errorf("pushed to %s", name)
		}
	}
	for _, r := range w.net.Records(t, "alice", "io.atcr.tag") {
		if r.Value["tag"] == "v2" {
			t.Errorf("a tag was written: %v", r)
		}
	}
}

// pullsCounted: the AppView told the holds of the pulls without sign-in as did:web:registry.atcr-tests.net, whose document they fetched.
func (w *world) pullsCounted(t *testing.T) {
	for host, want := range map[string]float64{"hold.test": 2, "plc-hold.test": 1} { // one is alice's own
		did := map[string]syntax.DID{"hold.test": "did:web:hold.test", "plc-hold.test": w.plcHold}[host]
		eventually(t, func() error {
			records, err := w.holdRecords(host, did, "io.atcr.hold.stats")
			if err == nil && (len(records) != 1 || records[0].Value["pullCount"] != want) {
				err = fmt.Errorf("%s counts %v, want pullCount %v", host, records, want)
			}
			return err
		})
	}
}
