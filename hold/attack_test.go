package hold_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/repo"
)

// talkative is a directory whose errors say what a resolver's say: addresses.
type talkative struct{ identity.Directory }

const innerAddress = "10.1.2.3:443"

func (d talkative) LookupDID(ctx context.Context, did syntax.DID) (*identity.Account, error) {
	if did == "did:web:inner.example.com" {
		return nil, fmt.Errorf("%w: %s: Get \"https://inner.example.com/.well-known/did.json\": dial tcp %s: address not allowed",
			identity.ErrDIDResolutionFailed, did, innerAddress)
	}
	return d.Directory.LookupDID(ctx, did)
}

// What a name resolves to inside the hold's network is nobody's business: anybody can put any issuer into a token.
func TestErrorsTellNoAddresses(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, func(c *hold.Config) { c.Directory = talkative{n.dir} })
	token, err := serviceauth.Mint(alice.key, serviceauth.MintOptions{
		Issuer: "did:web:inner.example.com", Audience: h.DID(), Method: "io.atcr.hold.getQuota", Clock: n.clock,
	})
	must(t, err)
	code, out := h.callWith("Bearer "+token, "GET", "io.atcr.hold.getQuota", "userDid="+alice.did, nil)
	if code != 503 || strings.Contains(fmt.Sprint(out), innerAddress) {
		t.Errorf("an issuer inside: %d %v", code, out)
	}
}

// A token as upstream's AppView sends them can be used again, so it must not take anything away.
func TestLegacyTokenDeletesNothing(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, _ := alice.putManifest(t, h, "app", config, layer)
	token, err := alice.token(t.Context(), h.DID(), "com.atproto.repo.getRecord")
	must(t, err)
	tell := func(operation string) (int, map[string]any) {
		return h.callWith("Bearer "+token, "POST", "io.atcr.hold.notifyManifest", "", map[string]any{
			"operation": operation, "repository": "app", "userDid": alice.did, "manifestDigest": d,
		})
	}
	if code, out := tell("push"); code != 200 {
		t.Fatalf("push: %d %v", code, out)
	}
	alice.deleteManifest(t, d)
	if code, out := tell("delete"); code != 401 {
		t.Errorf("delete: %d %v", code, out)
	}
	if code, out := h.notify(alice, "delete", "app", d); code != 200 || out["layersDeleted"] != 2.0 {
		t.Errorf("with a token for it: %d %v", code, out)
	}
}

// A record's URI comes from an untrusted PDS and ends in every layer record.
func TestRecordKeysOfStrangersAreChecked(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, _ := alice.putManifest(t, h, "app", config, layer)
	rec, err := alice.repo.Get(t.Context(), atcr.NSIDManifest, atcr.ManifestRKey(d))
	must(t, err)
	value, err := rec.JSON()
	must(t, err)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "listRecords"):
			_ = json.NewEncoder(w).Encode(map[string]any{"records": []any{map[string]any{
				"uri": "at://" + alice.did + "/" + atcr.NSIDManifest + "/" + strings.Repeat("x", 500_000), "value": json.RawMessage(value),
			}}})
		case strings.HasSuffix(r.URL.Path, "getRecord"):
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "RecordNotFound"})
		default:
			resp, err := http.Get(alice.pds + r.URL.RequestURI())
			if err != nil {
				return
			}
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		}
	}))
	defer srv.Close()
	pub, err := alice.key.PublicKey()
	must(t, err)
	insert(h.net.dir, childUser{alice.did, pub.Multibase(), srv.URL})
	code, out := h.notify(alice, "push", "app", d)
	if code != 400 || out["error"] != "ManifestRecordNotFound" {
		t.Errorf("%d %.300v", code, out)
	}
	for _, l := range h.layers() {
		t.Errorf("a layer record names a manifest of %d bytes", len(l.Manifest))
	}
}

// What the captain took from a member does not come back by leaving and joining.
func TestLeavingGivesNoRights(t *testing.T) {
	n := newNetwork(t)
	mallory := n.user("mallory")
	h := newHold(t, n, func(c *hold.Config) {
		c.Public, c.AllowAllCrew = true, true
		c.Crew = []hold.CrewMember{{Member: mallory.did, Permissions: []string{"blob:read"}}}
	})
	if code, _ := h.call(mallory, "POST", "io.atcr.hold.initiateUpload", "", map[string]any{}); code != 403 {
		t.Fatalf("before: %d", code)
	}
	h.call(mallory, "POST", "io.atcr.hold.deleteUserData", "", map[string]any{})
	h.call(mallory, "POST", "io.atcr.hold.requestCrew", "", map[string]any{})
	if code, out := h.call(mallory, "POST", "io.atcr.hold.initiateUpload", "", map[string]any{}); code != 403 {
		t.Errorf("after leaving and joining: %d %v", code, out)
	}
}

// A build cache is an index whose children are blobs: they are as much the manifest's as layers are.
func TestChildrenThatAreBlobsAreRecorded(t *testing.T) {
	h, alice, config, layer := pushed(t)
	body, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{
			{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: layer, Size: 1000},
			{MediaType: "application/vnd.buildkit.cacheconfig.v0", Digest: config, Size: 2},
		},
	})
	must(t, err)
	d := digest.FromBytes(body)
	value, err := repo.RecordFrom(map[string]any{
		"$type": atcr.NSIDManifest, "repository": "app", "digest": d.String(), "mediaType": ocispec.MediaTypeImageIndex,
		"schemaVersion": 2, "holdDid": h.DID(), "createdAt": "2026-01-01T00:00:00.000Z",
		"manifestBlob": map[string]any{"$type": "blob", "ref": map[string]string{"$link": repo.BlobCID(body).String()},
			"mimeType": "application/json", "size": len(body)},
	})
	must(t, err)
	_, err = alice.repo.Apply(t.Context(), []repo.Write{{
		Action: repo.Create, Collection: atcr.NSIDManifest, RKey: atcr.ManifestRKey(d), Record: value,
		Blobs: []repo.Blob{{MediaType: ocispec.MediaTypeImageIndex, Data: body}},
	}})
	must(t, err)
	code, out := h.notify(alice, "push", "app", d)
	if code != 200 || out["layersCreated"] != 2.0 {
		t.Errorf("%d %v", code, out)
	}
}
