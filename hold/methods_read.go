package hold

import (
	"context"
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

const methodGetBlob = "com.atproto.sync.getBlob"

func (s *Server) health(context.Context, *call) (any, error) {
	return map[string]string{"status": "ok"}, nil
}

func (s *Server) describeServer(context.Context, *call) (any, error) {
	return map[string]any{
		"did": s.DID(), "availableUserDomains": []string{}, "inviteCodeRequired": true,
	}, nil
}

func (s *Server) resolveHandle(_ context.Context, c *call) (any, error) {
	handle, err := queryOne(c.r, "handle")
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(handle, s.cfg.host()) {
		return nil, invalid("this hold knows its own handle only, which is %s", s.cfg.host())
	}
	return map[string]string{"did": s.DID()}, nil
}

// getBlob serves layers by digest and the blobs of the hold's records by CID. On a public hold no token is looked at: Go
// clients carry Authorization along when they are redirected here, and it may be anybody's.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, c *call) error {
	if !s.people.record().Public {
		if err := s.identify(c, methodGetBlob, reader); err != nil {
			return err
		}
	}
	did, err := queryOne(r, "did")
	if err != nil {
		return err
	}
	if _, err := syntax.ParseDID(did); err != nil {
		return invalid("did: %v", err)
	}
	name, err := queryOne(r, "cid")
	if err != nil {
		return err
	}
	if strings.Contains(name, ":") {
		d := digest.Digest(name)
		if err := storage.CheckDigest(d); err != nil {
			return err
		}
		return s.blobs.send(w, r, d)
	}
	return s.recordBlob(w, r, did, name)
}

// recordBlob returns a blob that a record of the hold's repository names.
func (s *Server) recordBlob(w http.ResponseWriter, r *http.Request, did, name string) error {
	id, err := syntax.ParseDID(did)
	if err != nil || !s.keeper.self().Is(id) {
		return fail(http.StatusBadRequest, "RepoNotFound", "blobs with a CID are those of %s", s.DID())
	}
	cid, err := repo.ParseCID(name)
	if err != nil {
		return invalid("cid: %v", err)
	}
	blob, err := s.repo.GetBlob(r.Context(), cid)
	if err != nil {
		return blobNotFound(err)
	}
	return blobhttp.Serve(w, r, recordContent(cid, blob))
}

func (s *Server) getLayersForManifest(ctx context.Context, c *call) (any, error) {
	uri, err := queryOne(c.r, "manifest")
	if err != nil {
		return nil, err
	}
	at, err := syntax.ParseATURI(uri)
	if err != nil {
		return nil, invalid("manifest: %v", err)
	}
	did := at.Authority().String()
	keys, err := s.ledger.RecordKeys(ctx, did, uri)
	if err != nil {
		return nil, err
	}
	layers := []object{}
	for _, rkey := range keys {
		o, _, err := s.records.get(ctx, atcr.NSIDLayer, rkey)
		if err != nil {
			return nil, err
		}
		layers = append(layers, o)
	}
	return map[string]any{"layers": layers}, nil
}
