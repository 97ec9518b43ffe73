package identity

import (
	"encoding/json"
	"fmt"
	"net/http"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
)

// Document returns a service's DID document: its key as #atproto in Multikey form, its services at the
// public URL, and its handle, if it has one, in alsoKnownAs.
func Document(id *Identity) (DIDDocument, error) {
	pub, err := id.Key.PublicKey()
	if err != nil {
		return DIDDocument{}, fmt.Errorf("public key of %s: %w", id.DID, err)
	}
	doc := DIDDocument{DID: id.DID}
	if id.Handle != "" {
		doc.AlsoKnownAs = []string{"at://" + id.Handle.String()}
	}
	doc.VerificationMethod = []indigo.DocVerificationMethod{{
		ID: id.DID.String() + "#atproto", Type: "Multikey", Controller: id.DID.String(), PublicKeyMultibase: pub.Multibase(),
	}}
	for _, s := range id.Services {
		doc.Service = append(doc.Service, indigo.DocService{ID: "#" + s.ID, Type: s.Type, ServiceEndpoint: id.PublicURL})
	}
	return doc, nil
}

// WellKnown serves GET and HEAD of /.well-known/did.json and /.well-known/atproto-did; all else is 404. Mount it at
// "/.well-known/".
func WellKnown(id *Identity) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/atproto-did", constant("text/plain; charset=utf-8", []byte(id.DID)))
	body, err := documentJSON(id)
	if err != nil { // a key that has no public half: nothing that LoadOrCreateDID answers
		body = nil
	}
	mux.HandleFunc("GET /.well-known/did.json", constant("application/json", body))
	return mux
}

func documentJSON(id *Identity) ([]byte, error) {
	doc, err := Document(id)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Context []string `json:"@context"`
		DIDDocument
	}{[]string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"}, doc})
}

func constant(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if body == nil {
			http.Error(w, "identity unavailable", http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body)
	}
}
