package hold_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestReferencePDS pushes with service tokens, identities and records of the reference PDS.
func TestReferencePDS(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{})
	alice, bob := real.Account("alice"), real.Account("bob")
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) {
		c.OwnerDID, c.AllowAllCrew = alice.DID, true
		c.Directory = identity.NewResolver(identity.ResolverOptions{PLCURL: real.PLC, HandleResolverURL: alice.PDS, TestMode: true})
		c.Crew = []hold.CrewMember{{Member: alice.Handle, Permissions: []string{"blob:write"}}}
	})
	ctx := t.Context()
	as := func(name string) *holdclient.Client {
		return holdclient.New(holdclient.Options{DID: h.DID(), URL: h.url, HasHoldService: true, HTTP: http.DefaultClient,
			Token: func(_ context.Context, aud, lxm string) (string, error) {
				return real.ServiceAuth(t, name, aud, lxm), nil
			}})
	}
	if m, err := as("alice").Member(ctx, alice.DID); err != nil || m.Member != alice.DID {
		t.Errorf("the member who was configured by handle: %+v, %v", m, err)
	}
	c := as("bob")
	if _, err := c.InitiateUpload(ctx, ""); !errors.Is(err, holdclient.ErrForbidden) {
		t.Fatalf("bob before he joined: %v", err)
	}
	_, err := c.RequestCrew(ctx)
	must(t, err)
	put := func(b []byte) digest.Digest {
		d := digest.FromBytes(b)
		id, err := c.InitiateUpload(ctx, d)
		must(t, err)
		p, err := c.UploadPart(ctx, id, 1, int64(len(b)), bytes.NewReader(b))
		must(t, err)
		must(t, c.CompleteUpload(ctx, id, d, []holdclient.Part{p}))
		return d
	}
	config, layer := put([]byte("{}")), put(data(1, 100_000))
	manifest := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[{"mediaType":"c/d","digest":%q,"size":100000}]}`,
		ocispec.MediaTypeImageManifest, config, layer))
	d := digest.FromBytes(manifest)
	session := real.Session(t, "bob")
	blob := uploadBlob(t, bob.PDS, session, manifest)
	must(t, real.Call(ctx, http.MethodPost, bob.PDS, "com.atproto.repo.putRecord", session, map[string]any{
		"repo": bob.DID, "collection": atcr.NSIDManifest, "rkey": atcr.ManifestRKey(d), "record": map[string]any{
			"$type": atcr.NSIDManifest, "repository": "app", "digest": d, "mediaType": ocispec.MediaTypeImageManifest, "schemaVersion": 2,
			"holdDid": h.DID(), "createdAt": "2026-01-01T00:00:00Z", "manifestBlob": blob,
		},
	}, nil))
	notice := holdclient.Notice{Operation: holdclient.Push, Repository: "app", UserDID: bob.DID, Digest: d}
	res, err := c.NotifyManifest(ctx, notice)
	must(t, err)
	if res.LayersCreated != 2 || len(h.layers()) != 2 {
		t.Errorf("push: %+v, %d layer records", res, len(h.layers()))
	}
	notice.Operation = holdclient.Delete
	token := real.ServiceAuth(t, "bob", h.DID(), atcr.NSIDNotifyManifest)
	real.StopPDS(t, 0)
	code, out := h.callWith("Bearer "+token, "POST", atcr.NSIDNotifyManifest, "", map[string]any{
		"operation": "delete", "repository": "app", "userDid": bob.DID, "manifestDigest": d,
	})
	if code != http.StatusServiceUnavailable || len(h.layers()) != 2 {
		t.Errorf("a delete while the PDS is down: %d %v", code, out)
	}
	real.StartPDS(t, 0)
	session = real.Session(t, "bob")
	must(t, real.Call(ctx, http.MethodPost, bob.PDS, "com.atproto.repo.deleteRecord", session, map[string]any{
		"repo": bob.DID, "collection": atcr.NSIDManifest, "rkey": atcr.ManifestRKey(d),
	}, nil))
	res, err = c.NotifyManifest(ctx, notice)
	must(t, err)
	if res.LayersDeleted != 2 || len(h.layers()) != 0 {
		t.Errorf("delete: %+v, %d layer records", res, len(h.layers()))
	}
}

func uploadBlob(t *testing.T, pds, session string, b []byte) json.RawMessage {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, pds+"/xrpc/com.atproto.repo.uploadBlob", bytes.NewReader(b))
	must(t, err)
	req.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	req.Header.Set("Authorization", "Bearer "+session)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	var out struct{ Blob json.RawMessage }
	if err := json.Unmarshal(body, &out); err != nil || len(out.Blob) == 0 {
		t.Fatalf("uploadBlob: %s %s", resp.Status, body)
	}
	return out.Blob
}
