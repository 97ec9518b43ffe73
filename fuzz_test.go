package atcr

import (
	"encoding/json"
	"testing"
)

// What is read is written in a form that is read as the same.
func FuzzRecord(f *testing.F) {
	f.Add(uint8(0), []byte(`{"repository":"app","config":{"mediaType":"a","size":1,"digest":"d","x":[]},"manifestBlob":{"cid":"b"},"manifests":[{"platform":{"os":"b"}}],"y":1}`))
	f.Add(uint8(1), []byte(`{"$type":"io.atcr.tag","Tag":"V","tag":"v"}`))
	f.Add(uint8(3), []byte(`{"defaultHold":"https://hold.example.com"}`))
	f.Add(uint8(4), []byte(`{"subject":{"did":"did:web:x.test","repository":"a/b"}}`))
	f.Add(uint8(6), []byte(`{"did":"did:web:x.test","permissions":null}`))
	kinds := []string{NSIDManifest, NSIDTag, NSIDRepoPage, NSIDProfile, NSIDStar, NSIDCaptain, NSIDCrew, NSIDLayer, NSIDStats, NSIDScan}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		nsid := kinds[int(kind)%len(kinds)]
		r, again := NewRecord(nsid), NewRecord(nsid)
		if json.Unmarshal(data, r) != nil {
			return
		}
		_ = r.Check()
		first, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(first, again); err != nil {
			t.Fatalf("%s is not read back: %v", first, err)
		}
		second, err := json.Marshal(again)
		if err != nil || string(first) != string(second) {
			t.Fatalf("first %s\nsecond %s, %v", first, second, err)
		}
	})
}

// A normal form stays as it is, and what has a URL comes back from it.
func FuzzHoldDID(f *testing.F) {
	for _, s := range []string{"did:web:127.0.0.1:8080", "did:web:x.test", "https://x.test:8443/y", didA, "did:web:x%2Fy", "at://" +
		didA + "/a.b.c/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseURI(s); err == nil && u.String() != s {
			t.Fatalf("%q is written %q", s, u)
		}
		did, err := HoldDID(s)
		if err != nil {
			return
		}
		if again, err := NormalizeDID(did); err != nil || again != did {
			t.Fatalf("%q gives %q, and that %q, %v", s, did, again, err)
		}
		if url := DIDWebURL(did, false); url != "" {
			if back, err := DIDFromURL(url); err != nil || back != did && WebHost(did) != WebHost(back)+":443" {
				t.Fatalf("%q has URL %q, which gives %q, %v", did, url, back, err)
			}
		}
	})
}
