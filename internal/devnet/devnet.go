package devnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// Config says what network to start.
type Config struct {
	// Dir keeps the network; it is made when it isn't there. Required.
	Dir string
	// PDSAddr and PLCAddr are where to listen; empty is a free port of 127.0.0.1. The PDS's public address is
	// http://localhost:PORT.
	PDSAddr, PLCAddr string
	// Accounts to have; nil is alice.test and bob.test. Those that exist stay as they are.
	Accounts []NewAccount
	// MaxBlob limits an uploaded blob in bytes; 0 is 5 MiB.
	MaxBlob int64
	// Log hears of failures; nil is silent.
	Log *slog.Logger
	// Clock is the time; nil is time.Now.
	Clock func() time.Time
}

// NewAccount is an account to make. An empty password is chosen.
type NewAccount struct {
	Handle   string
	Password string
}

// Account is one of the network's accounts.
type Account struct {
	Handle   string
	DID      string
	Password string
}

// Net is a running network. Safe for concurrent use.
type Net struct {
	dir    *Directory
	pds    *PDS
	plcURL string
	pdsURL string

	stop  context.CancelFunc
	wg    sync.WaitGroup
	lock  *durable.Lock
	once  sync.Once
	err   error
	serve []error // of the servers
	mu    sync.Mutex
}

// Start starts directory and PDS and returns when both do. ctx is for starting only; Close ends the network.
func Start(ctx context.Context, c Config) (n *Net, err error) {
	if c.Dir == "" {
		return nil, errors.New("start development network: Dir is missing")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	n = &Net{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start development network in %s: %w", c.Dir, err), n.Close())
			n = nil
		}
	}()
	if err := durable.MkdirAll(c.Dir, 0o700); err != nil {
		return n, err
	}
	if n.lock, err = durable.LockDir(c.Dir); err != nil {
		return n, err
	}
	if n.dir, err = OpenDirectory(ctx, filepath.Join(c.Dir, "plc.jsonl"), c.Clock); err != nil {
		return n, err
	}
	plcListener, err := listen(ctx, c.PLCAddr)
	if err != nil {
		return n, err
	}
	pdsListener, err := listen(ctx, c.PDSAddr)
	if err != nil {
		plcListener.Close()
		return n, err
	}
	n.plcURL, n.pdsURL = publicURL(plcListener), publicURL(pdsListener)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.run(run, plcListener, n.dir, c.Log)
	n.pds, err = OpenPDS(ctx, n.dir, PDSConfig{Dir: filepath.Join(c.Dir, "pds"), PublicURL: n.pdsURL, Accounts: c.Accounts,
		MaxBlob: c.MaxBlob, Log: c.Log, Clock: c.Clock})
	if err != nil {
		pdsListener.Close()
		return n, err
	}
	n.run(run, pdsListener, n.pds, c.Log)
	return n, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

// publicURL names a listener as the reference PDS names itself: by localhost.
func publicURL(l net.Listener) string {
	return fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
}

func (n *Net) run(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) {
	n.wg.Go(func() {
		if err := httpx.Serve(ctx, l, h, httpx.ServerOptions{Log: log, Drain: 5 * time.Second}); err != nil {
			n.mu.Lock()
			n.serve = append(n.serve, err)
			n.mu.Unlock()
		}
	})
}

// PLCURL is the directory's address.
func (n *Net) PLCURL() string { return n.plcURL }

// PDSURL is the server's address.
func (n *Net) PDSURL() string { return n.pdsURL }

// PDS is the server itself.
func (n *Net) PDS() *PDS { return n.pds }

// Accounts are the network's accounts in the order they were made.
func (n *Net) Accounts() []Account { return n.pds.Accounts() }

// Close ends the network: requests under way have five seconds. Calling it again does nothing.
func (n *Net) Close() error {
	n.once.Do(func() {
		if n.stop != nil {
			n.stop()
		}
		n.wg.Wait()
		n.err = errors.Join(n.serve...)
		if n.pds != nil {
			n.err = errors.Join(n.err, n.pds.Close())
		}
		if n.dir != nil {
			n.err = errors.Join(n.err, n.dir.Close())
		}
		if n.lock != nil {
			n.err = errors.Join(n.err, n.lock.Close())
		}
	})
	return n.err
}
