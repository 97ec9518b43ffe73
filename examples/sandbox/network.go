package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/devnet"
	"github.com/atcr-dev/atcr/registry/appview"
)

const (
	handle   = "alice.test"
	password = "correct-horse-battery"
)

// network is everything that runs.
type network struct {
	line
	devnet *devnet.Net
	hold   *hold.Server
	app    *appview.Server

	group    *errgroup.Group
	listener *listeners
	servers  []*http.Server
	stop     context.CancelFunc // ends what Run of hold and AppView do
}

// start puts the network together. What it opened is closed when it fails.
func start(ctx context.Context, dir string, want addresses, public bool, log *slog.Logger) (_ *network, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	want, err = recall(dir, want)
	if err != nil {
		return nil, err
	}
	ln, err := listen(dir, want)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	n := &network{listener: ln, stop: stop}
	n.group, ctx = errgroup.WithContext(ctx)
	defer func() {
		if err != nil {
			n.close()
		}
	}()

	n.devnet, err = devnet.Start(ctx, devnet.Config{
		Dir: filepath.Join(dir, "network"), PDSAddr: want.PDS, PLCAddr: want.PLC, Log: log.With("service", "pds"),
		Accounts: []devnet.NewAccount{{Handle: handle, Password: password}},
	})
	if err != nil {
		return nil, fmt.Errorf("start directory and PDS: %w", err)
	}
	err = keep(dir, addresses{
		Registry: ln.registry.Addr().String(), Hold: ln.hold.Addr().String(), PDS: host(n.devnet.PDSURL()), PLC: host(n.devnet.PLCURL()),
	})
	if err != nil {
		return nil, err
	}
	alice := n.devnet.Accounts()[0]

	n.hold, err = hold.New(ctx, hold.Config{
		Dir: filepath.Join(dir, "hold"), PublicURL: "http://" + port(ln.hold, "localhost"), OwnerDID: alice.DID,
		Public: public, AllowAllCrew: public, TestMode: true,
		Identity: identity.Config{Method: "plc"},
		PLCURL:   n.devnet.PLCURL(), HandleResolverURL: n.devnet.PDSURL(), Log: log.With("service", "hold"),
	})
	if err != nil {
		return nil, fmt.Errorf("start the hold: %w", err)
	}
	n.app, err = appview.New(ctx, appview.Config{
		Dir: filepath.Join(dir, "appview"), BaseURL: "http://" + ln.registry.Addr().String(), DefaultHold: n.hold.DID(),
		TestMode: true, PLCURL: n.devnet.PLCURL(), HandleResolverURL: n.devnet.PDSURL(), Log: log.With("service", "appview"),
	})
	if err != nil {
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	n.line = line{
		Registry: ln.registry.Addr().String(), Hold: "http://" + port(ln.hold, "localhost"), HoldDID: n.hold.DID(),
		PDS: n.devnet.PDSURL(), Handle: handle, DID: alice.DID, Password: password,
	}
	n.serve(ln.hold, n.hold.Handler())
	n.serve(ln.registry, n.app.Handler())
	n.group.Go(func() error { return n.hold.Run(ctx) })
	n.group.Go(func() error { return n.app.Run(ctx) })
	return n, nil
}

// host is the listening address behind a URL of localhost.
func host(url string) string {
	_, p, _ := net.SplitHostPort(url[len("http://"):])
	return net.JoinHostPort("127.0.0.1", p)
}

// port is a listener's address under another name for its host.
func port(ln net.Listener, host string) string {
	_, p, _ := net.SplitHostPort(ln.Addr().String())
	return net.JoinHostPort(host, p)
}

func (n *network) serve(ln net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	n.servers = append(n.servers, s)
	n.group.Go(func() error {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
}

// ready waits until each service answers.
func (n *network) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, url := range []string{
		n.devnet.PLCURL() + "/_health", n.PDS + "/xrpc/_health", n.line.Hold + "/xrpc/_health", "http://" + n.Registry + "/health",
	} {
		for {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					break
				}
				err = errors.New(resp.Status)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for %s: %w", url, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// wait returns when ctx ends, after a drain, or when a service failed.
func (n *network) wait(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- n.group.Wait() }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		failed <- err
	}
	drain, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range n.servers {
		err = errors.Join(err, s.Shutdown(drain))
	}
	n.stop()
	if e := <-failed; err == nil && !errors.Is(e, context.Canceled) {
		err = e
	}
	return err
}

// close lets go of everything; it may be called at any time after start.
func (n *network) close() {
	n.stop()
	for _, s := range n.servers {
		s.Close()
	}
	if n.app != nil {
		n.app.Close()
	}
	if n.hold != nil {
		n.hold.Close()
	}
	if n.devnet != nil {
		n.devnet.Close()
	}
	n.listener.close()
}
