package holdcli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/carv2"
)

// Limits of a repository that is fetched: of its bytes, and of the time they may take.
const (
	maxFetched = 64 << 30
	fetchWait  = 12 * time.Hour
)

// network is how other accounts are looked up and asked.
type network struct {
	hold   hold.Config
	stderr io.Writer
}

// open makes what asks; call done at last.
func (r *network) open() (dir *identity.Resolver, client *http.Client, done func(), err error) {
	guard := httpx.Guard{Loopback: r.hold.TestMode, Allow: r.hold.AllowNetworks}
	look := httpx.NewClient(httpx.ClientOptions{Guard: guard, UserAgent: "atcr-hold"})
	client = httpx.NewClient(httpx.ClientOptions{Guard: guard, UserAgent: "atcr-hold", Timeout: fetchWait})
	dir = identity.NewResolver(identity.ResolverOptions{
		HTTP: look, PLCURL: r.hold.PLCURL, HandleResolverURL: r.hold.HandleResolverURL, TestMode: r.hold.TestMode, Log: r.hold.Log,
	})
	return dir, client, func() { look.CloseIdleConnections(); client.CloseIdleConnections() }, nil
}

// keyOf asks the network for an account's signing key. One that can't be found is told and let pass: the account's server
// may be what was lost.
func (r *network) keyOf(ctx context.Context, did string) (atcrypto.PublicKey, error) {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return nil, err
	}
	dir, _, done, err := r.open()
	if err != nil {
		return nil, err
	}
	defer done()
	doc, err := dir.LookupDID(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		fmt.Fprintf(r.stderr, "warning: the signing key of %s can't be found, so the signature was not checked (--key "+
			"names it): %v\n", did, err)
		return nil, nil
	}
	return doc.PublicKey()
}

type repoVerifyCommand struct {
	cli.JSONFlag
	What string `arg:"" name:"file|did" help:"CAR (CARv1 or CARv2) to check; - is standard input. Or the DID of any account, whose repository is then fetched from its server."`
	DID  string `name:"did" help:"Whose the CAR must be."`
	Key  string `help:"did:key that must have signed it; else the one of the CAR's DID." placeholder:"KEY"`
}

func (c *repoVerifyCommand) Run(ctx context.Context, std *cli.IO, all *RepoCommands) (err error) {
	key, err := publicKey(c.Key)
	if err != nil {
		return err
	}
	settled, err := config.ReadHold(all.Config, std.Environ)
	if err != nil {
		return err
	}
	bar := std.Progress()
	defer func() { bar.Done(err) }()
	r := &network{hold: Settings(settled, cli.Logger(std, slog.LevelWarn)), stderr: bar}
	if strings.HasPrefix(c.What, "did:") {
		info, err := r.verifyAccount(ctx, bar, c.What, key)
		if err != nil {
			return err
		}
		bar.Done(nil)
		return c.verified(std, info, "good")
	}
	f, err := open(std, c.What)
	if err != nil {
		return err
	}
	defer f.Close()
	src, err := carv2.Unwrap(repo.Source{Reader: bar.File(ctx, "read "+c.What, f), Name: c.What, DID: c.DID, Key: key, AnyKey: true})
	if err != nil {
		return err
	}
	car, err := repo.OpenCAR(ctx, src)
	if err != nil {
		return err
	}
	defer car.Close() //nolint:errcheck // a temporary file
	signature := "good"
	if key == nil {
		if key, err = r.keyOf(ctx, car.Info.DID); err != nil {
			return err
		}
		if key == nil {
			signature = "not checked"
		} else if err := car.VerifySignature(key); err != nil {
			return err
		}
	}
	bar.Done(nil)
	return c.verified(std, car.Info, signature)
}

// verifyAccount fetches the repository of an account from its server and verifies it as it comes. Unlike a CAR's, its key
// must be known.
func (r *network) verifyAccount(ctx context.Context, bar *cli.Progress, did string, key atcrypto.PublicKey) (none repo.CARInfo, err error) {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return none, err
	}
	dir, client, done, err := r.open()
	if err != nil {
		return none, err
	}
	defer done()
	doc, err := dir.LookupDID(ctx, id)
	if err != nil {
		return none, err
	}
	if key == nil {
		if key, err = doc.PublicKey(); err != nil {
			return none, fmt.Errorf("signing key of %s: %w", did, err)
		}
	}
	server := strings.TrimRight(doc.PDSEndpoint(), "/")
	if server == "" {
		return none, fmt.Errorf("the document of %s names no server that has its repository", did)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/xrpc/com.atproto.sync.getRepo?did="+url.QueryEscape(did), nil)
	if err != nil {
		return none, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return none, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e struct{ Error, Message string }
		body, _ := httpx.ReadLimited(resp, 64<<10)
		_ = json.Unmarshal(body, &e)
		return none, fmt.Errorf("com.atproto.sync.getRepo of %s answers %d %.100q %.200q", server, resp.StatusCode, e.Error, e.Message)
	}
	return repo.VerifyCAR(ctx, repo.Source{Reader: bar.File(ctx, "read "+server, io.LimitReader(resp.Body, maxFetched)),
		Name: "the repository from " + server, DID: did, Key: key})
}

func (c *repoVerifyCommand) verified(std *cli.IO, i repo.CARInfo, signature string) error {
	return c.Print(std, CARJSON(i, signature), func() error {
		_, err := fmt.Fprintf(std.Out, "%s: revision %s, commit %s, %d records, %d nodes, %d blobs; signature %s\n", i.DID, i.Rev,
			i.Commit, i.Records, i.Nodes, i.Blobs, signature)
		if err == nil && i.NotCanonical > 0 {
			_, err = fmt.Fprintf(std.Out, "%d records are not canonical DAG-CBOR and can't be imported; the first: %v\n", i.NotCanonical,
				i.FirstNotCanonical)
		}
		return err
	})
}
