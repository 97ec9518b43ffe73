package devnet

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/repo/xrpc"
)

// maxJSON limits a request's JSON, as the reference does.
const maxJSON = 1_000_000

// domain is the one that the server's handles are in.
const domain = ".test"

type handler func(http.ResponseWriter, *http.Request) error

func (p *PDS) routes() {
	p.calls = xrpc.NewHandler(served{p}, &xrpc.Options{Log: p.cfg.Log}).Methods()
	for nsid, f := range map[string]handler{
		"com.atproto.server.describeServer":  p.describeServer,
		"com.atproto.server.getSession":      p.getSession,
		"com.atproto.server.getServiceAuth":  p.getServiceAuth,
		"com.atproto.identity.resolveHandle": p.resolveHandle,
		"_health":                            p.health,
	} {
		p.calls[nsid] = xrpc.Query(p.cfg.Log, f)
	}
	for nsid, f := range map[string]handler{
		"com.atproto.server.createSession":     p.createSession,
		"com.atproto.server.refreshSession":    p.refreshSession,
		"com.atproto.server.deleteSession":     p.deleteSession,
		"com.atproto.server.createAppPassword": p.createAppPassword,
		"com.atproto.repo.uploadBlob":          p.uploadBlob,
		"com.atproto.repo.applyWrites":         p.applyWrites,
		"com.atproto.repo.createRecord":        p.createRecord,
		"com.atproto.repo.putRecord":           p.putRecord,
		"com.atproto.repo.deleteRecord":        p.deleteRecord,
	} {
		p.calls[nsid] = xrpc.Procedure(p.cfg.Log, f)
	}
	p.mux = http.NewServeMux()
	p.mux.HandleFunc("/xrpc/{nsid}", func(w http.ResponseWriter, r *http.Request) {
		h, ok := p.calls[r.PathValue("nsid")]
		if !ok {
			// The reference passes what it doesn't know on to a service, of which there is none here either.
			xrpc.WriteError(w, r, p.cfg.Log, xrpc.InvalidRequest("No service configured for %s", r.PathValue("nsid")))
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		h.ServeHTTP(w, r)
	})
	p.mux.HandleFunc("GET /.well-known/atproto-did", p.wellKnown)
	p.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "This is ATCR's development PDS. Its methods are under /xrpc/\n") //nolint:errcheck // the client is gone
	})
}

// ServeHTTP returns XRPC and /.well-known/atproto-did.
func (p *PDS) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

func (p *PDS) health(w http.ResponseWriter, _ *http.Request) error {
	xrpc.WriteJSON(w, http.StatusOK, map[string]string{"version": "devnet"})
	return nil
}

func (p *PDS) describeServer(w http.ResponseWriter, _ *http.Request) error {
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{
		"did": p.did, "availableUserDomains": []string{domain}, "inviteCodeRequired": false,
		"blobUploadLimit": p.cfg.MaxBlob, "links": struct{}{}, "contact": struct{}{},
	})
	return nil
}

func (p *PDS) resolveHandle(w http.ResponseWriter, r *http.Request) error {
	s := r.URL.Query().Get("handle")
	if s == "" {
		return xrpc.InvalidRequest("Error: Params must have the property %q", "handle")
	}
	h, err := syntax.ParseHandle(s)
	if err != nil {
		return xrpc.InvalidRequest("Error: handle must be a valid handle")
	}
	a := p.handles[h.Normalize().String()]
	switch {
	case a != nil:
		xrpc.WriteJSON(w, http.StatusOK, map[string]string{"did": a.DID})
		return nil
	case strings.HasSuffix(h.Normalize().String(), domain):
		return xrpc.Errorf(http.StatusBadRequest, "HandleNotFound", "Unable to resolve handle")
	}
	return xrpc.InvalidRequest("Unable to resolve handle")
}

func (p *PDS) wellKnown(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a := p.handles[strings.ToLower(host)]
	if a == nil {
		http.Error(w, "User not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, a.DID) //nolint:errcheck // the client is gone
}

// input reads a request's JSON body.
func input(w http.ResponseWriter, r *http.Request, into any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return xrpc.InvalidRequest("Wrong request encoding (Content-Type): %s", r.Header.Get("Content-Type"))
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJSON))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		if t := (*json.UnmarshalTypeError)(nil); errors.As(err, &t) {
			return xrpc.InvalidRequest("Error: Input/%s must be a %s", t.Field, t.Type)
		}
		return xrpc.InvalidRequest("the body is not JSON: %v", err)
	}
	return nil
}
