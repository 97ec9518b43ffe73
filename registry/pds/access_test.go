package pds_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// TestPrivateHold goes through who may read what of a private hold, and makes it public then.
func TestPrivateHold(t *testing.T) {
	t.Parallel()
	public := false
	w := newWorld(t, devnetPDS, func(w *world) {
		w.users = []string{"alice", "bob", "carol", "dave"}
		w.holdConfig = func(c *hold.Config) {
			c.Public, c.AllowAllCrew = public, false
			c.Crew = []hold.CrewMember{{Member: w.accounts["bob"].did, Permissions: []string{"blob:read"}},
				{Member: w.accounts["carol"].did, Permissions: []string{"blob:write"}}}
		}
	})
	img := newImage(t, "one", nil)
	subject := img.manifest.Descriptor()
	empty := ocispec.Descriptor{MediaType: ocispec.MediaTypeEmptyJSON, Digest: digest.FromString("{}"), Size: 2}
	artifact := parse(t, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: "application/x", Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: &subject})
	w.push("app", img, "v1")
	must(t, upload(t.Context(), w.repo("alice", "alice", "app"), []byte("{}")))
	must(t, w.repo("alice", "alice", "app").PutManifest(t.Context(), artifact, nil))
	w.settled()

	reads := map[string]func(registry.Repository) error{
		"tag": func(r registry.Repository) error {
			_, err := r.Manifest(t.Context(), registry.Ref{Tag: "v1"})
			return err
		},
		"digest": func(r registry.Repository) error {
			_, err := r.Manifest(t.Context(), registry.Ref{Digest: img.manifest.Digest})
			return err
		},
		"tags": func(r registry.Repository) error { _, err := collectTags(t.Context(), r); return err },
		"referrers": func(r registry.Repository) error {
			n := 0
			for _, err := range r.Referrers(t.Context(), img.manifest.Digest, "", "") {
				if err != nil {
					return err
				}
				n++
			}
			if n != 1 {
				return fmt.Errorf("%d referrers", n)
			}
			return nil
		},
		"layer": func(r registry.Repository) error {
			b, err := r.Blob(t.Context(), img.manifest.Layers[0].Digest)
			if err != nil {
				return err
			}
			body, err := b.Open(t.Context(), registry.Range{})
			if err == nil {
				body.Close()
			}
			return err
		},
	}
	cells := map[string]*registry.Error{"": registry.ErrUnauthorized, "dave": registry.ErrDenied, "bob": nil, "carol": nil, "alice": nil}
	for who, want := range cells {
		for what, read := range reads {
			err := read(w.repo(who, "alice", "app"))
			if want == nil && err != nil || want != nil && !errors.Is(err, want) {
				t.Errorf("%q reads the %s: %v", who, what, err)
			}
			if e := (*registry.Error)(nil); errors.As(err, &e) && who == "" && e.Challenge == "" {
				t.Errorf("%s: no challenge", what)
			}
		}
	}
	for who, want := range map[string]*registry.Error{"bob": registry.ErrDenied, "dave": registry.ErrDenied, "carol": nil} {
		err := push(t.Context(), w.repo(who, who, "mine"), newImage(t, who, nil), "v1")
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%q pushes: %v", who, err)
		}
	}
	// A mount from where the actor may not read tells nothing.
	_, err := w.repo("dave", "dave", "mine").Mount(t.Context(), img.manifest.Layers[0].Digest, w.accounts["alice"].handle+"/app")
	if !errors.Is(err, registry.ErrBlobUnknown) && !errors.Is(err, registry.ErrDenied) {
		t.Error(err)
	}
	// One who may read and write mounts without moving bytes.
	desc, err := w.repo("carol", "carol", "mine").Mount(t.Context(), img.manifest.Layers[0].Digest, w.accounts["alice"].handle+"/app")
	must(t, err)
	if desc.Size != img.manifest.Layers[0].Size {
		t.Errorf("mounted %+v", desc)
	}
	_, err = w.repo("carol", "carol", "mine").Mount(t.Context(), digest.FromString("nothing"), w.accounts["alice"].handle+"/app")
	wantKind(t, err, registry.ErrBlobUnknown)
	// A digest that no manifest of the repository names is for its owner alone.
	loose := []byte("loose")
	must(t, upload(t.Context(), w.repo("alice", "alice", "app"), loose))
	if _, err := w.repo("alice", "alice", "app").Blob(t.Context(), digest.FromBytes(loose)); err != nil {
		t.Error(err)
	}
	_, err = w.repo("bob", "alice", "app").Blob(t.Context(), digest.FromBytes(loose))
	wantKind(t, err, registry.ErrBlobUnknown)

	public = true
	w.holdServer.Close()
	w.startHold()
	w.clock.advance(2 * time.Minute)
	for what, read := range reads {
		if err := read(w.repo("", "alice", "app")); err != nil {
			t.Errorf("public, and the %s: %v", what, err)
		}
	}
	_, err = w.repo("", "alice", "nothing").Manifest(t.Context(), registry.Ref{Tag: "v1"})
	wantKind(t, err, registry.ErrNameUnknown)
	_, err = w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v9"})
	wantKind(t, err, registry.ErrManifestUnknown)
}

// TestSilentPDS returns from the copy, with a warning, while the owner's PDS is silent, and refuses pushes with its name.
func TestSilentPDS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) { o.ServeStale = time.Hour }
	})
	img := newImage(t, "one", nil)
	// The hold was not told: the intent that stays open must not keep the copy from being served.
	w.holdProxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "notifyManifest"})
	w.push("app", img, "v1")
	w.restart()
	if open, err := w.backend.Unsettled(t.Context(), ""); err != nil || len(open) != 1 {
		t.Fatalf("open: %v %v", open, err)
	}
	target := w.pdsTarget
	w.pdsProxy.SetTarget("")
	w.clock.advance(2 * time.Minute)
	anon := w.repo("", "alice", "app")
	m, err := anon.Manifest(t.Context(), registry.Ref{Tag: "v1"})
	must(t, err)
	if m.Warning == "" || m.Digest != img.manifest.Digest {
		t.Errorf("warning %q", m.Warning)
	}
	if _, err := anon.Blob(t.Context(), img.manifest.Layers[0].Digest); err != nil {
		t.Error(err)
	}
	if tags, err := collectTags(t.Context(), anon); err != nil || len(tags) != 1 {
		t.Errorf("%v %v", tags, err)
	}
	e := wantKind(t, push(t.Context(), w.repo("alice", "alice", "app"), newImage(t, "two", nil), "v2"), registry.ErrUnavailable)
	if e.RetryAfter <= 0 || !contains(e.Message, w.pdsProxy.URL) {
		t.Errorf("the push is told %q, retry after %v", e.Message, e.RetryAfter)
	}
	w.clock.advance(2 * time.Hour)
	_, err = anon.Manifest(t.Context(), registry.Ref{Tag: "v1"})
	wantKind(t, err, registry.ErrUnavailable)
	w.pdsProxy.SetTarget(target)
	w.clock.advance(time.Minute)
	m, err = anon.Manifest(t.Context(), registry.Ref{Tag: "v1"})
	must(t, err)
	if m.Warning != "" {
		t.Errorf("still %q", m.Warning)
	}
	w.push("app", newImage(t, "two", nil), "v2")
	w.settled()
	w.check("alice", "app")
}

// TestEndedSession leaves an intent whose session has ended to the owner's next push.
func TestEndedSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	img := newImage(t, "one", nil)
	fault := w.holdProxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "notifyManifest", Times: 2})
	w.push("app", img, "v1")
	must(t, realtest.WaitFor(time.Minute, func() error {
		if fault.Fired() == 0 {
			return errors.New("not told yet")
		}
		return nil
	}))
	w.holdProxy.Clear()
	w.sessions.end("alice")
	state := func() string {
		list, err := w.backend.Unsettled(t.Context(), w.accounts["alice"].did)
		must(t, err)
		if len(list) == 0 {
			return ""
		}
		return list[0].State
	}
	must(t, realtest.WaitFor(time.Minute, func() error {
		w.clock.advance(time.Minute)
		if _, err := w.backend.Settle(t.Context()); err != nil {
			return err
		}
		if s := state(); s != "session" {
			return fmt.Errorf("state %q", s)
		}
		return nil
	}))
	w.sessions.begin("alice")
	w.push("other", newImage(t, "two", nil), "v1")
	w.clock.advance(2 * time.Hour)
	w.settled()
	w.check("alice", "app")
}

// TestSilentHold has a push told which hold does not answer; it never goes to another silently.
func TestSilentHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	w.push("app", newImage(t, "one", nil), "v1")
	w.settled()
	w.holdProxy.SetTarget("")
	w.clock.advance(2 * time.Minute)
	e := wantKind(t, push(t.Context(), w.repo("alice", "alice", "app"), newImage(t, "two", nil), "v2"), registry.ErrUnavailable)
	if !contains(e.Message, w.holdServer.DID()) || e.RetryAfter <= 0 {
		t.Errorf("%q, retry after %v", e.Message, e.RetryAfter)
	}
	// What the hold last said of rights holds on for manifests.
	if _, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v1"}); err != nil {
		t.Error(err)
	}
	// A hold that was only started again takes the next push: that it was away is not remembered.
	bob := w.repo("bob", "bob", "app")
	wantKind(t, push(t.Context(), bob, newImage(t, "three", nil), "v1"), registry.ErrUnavailable)
	w.holdProxy.SetTarget(w.holdTarget)
	must(t, push(t.Context(), bob, newImage(t, "three", nil), "v1"))
}
