package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// FuzzManifest: what a target holds as a manifest is refused, or is signed by the key that it names, to the byte, and is plain.
func FuzzManifest(f *testing.F) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		f.Fatal(err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	const name = "20260101T000000.000000Z"
	m := Manifest{Name: name, DID: "did:web:hold.example.com", SigningKey: pub.DIDKey(), Rev: "3mabcdefghij2",
		Layers: &Layers{Count: 1},
		Files:  []File{{Name: repoFile, SHA256: strings.Repeat("0", 64)}, {Name: layersFile, SHA256: strings.Repeat("0", 64)}}}
	text, signature, err := m.encode(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, signature, false)
	before := strings.Replace(string(text), format, formatUnsigned, 1)
	before = strings.TrimSuffix(before, "\n}") + `, "sum": ""}`
	sum := sha256.Sum256([]byte(before))
	f.Add([]byte(strings.Replace(before, `"sum": ""`, `"sum": "`+hex.EncodeToString(sum[:])+`"`, 1)), []byte{}, false)
	f.Add(text, signature, true)
	f.Add([]byte("{}"), []byte("AA\n"), true)
	f.Fuzz(func(t *testing.T, text, signature []byte, sign bool) {
		if sign { // past the signature
			sig, err := key.HashAndSign(signedText(text))
			if err != nil {
				t.Fatal(err)
			}
			signature = []byte(encodeSignature(sig))
		}
		m, err := parseManifest(name, text, signature)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("speaks to a terminal: %q", err)
			}
			return
		}
		if m.Name != name || m.file(repoFile) == nil || strings.ContainsAny(m.DID.String()+m.Rev+m.SigningKey, "\x1b\n ") ||
			strings.ContainsAny(m.Version+m.Commit+m.Sum+m.Files[0].SHA256, "\x1b\n") {
			t.Errorf("%+v", m)
		}
		if m.Signed() && !sign {
			if _, err := parseManifest(name, append(text, ' '), signature); err == nil {
				t.Error("one more byte is signed, too")
			}
		}
		_ = m.checkSeq()
	})
}

// FuzzLayers: lines of layers.txt rise, and are written as they were read.
func FuzzLayers(f *testing.F) {
	one := "sha256:" + strings.Repeat("0", 64)
	f.Add(one + " 1\n" + strings.Replace(one, "0", "1", 1) + " 2\n")
	f.Add(one + " -1\n")
	f.Add(one + "\n")
	f.Add(strings.Repeat("x", 70000))
	f.Fuzz(func(t *testing.T, text string) {
		var out strings.Builder
		last := ""
		for l, err := range readLayers(strings.NewReader(text)) {
			if err != nil {
				return
			}
			if l.Digest.String() <= last || l.Size < 0 || layerName(l.Digest) == "" {
				t.Fatalf("%+v after %s", l, last)
			}
			last = l.Digest.String()
			if err := l.write(&out); err != nil {
				t.Fatal(err)
			}
		}
		if back := out.String(); len(back) > len(text)+1 {
			t.Errorf("%q came of %q", back, text)
		}
	})
}
