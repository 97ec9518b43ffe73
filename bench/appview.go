package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

// The whole network: AppView, hold and PDS of examples/sandbox, in one process.
const (
	appview = "appview"
	hold    = "hold"
)

// network is the first line that a sandbox prints.
type network struct {
	Registry string `json:"registry"`
	Hold     string `json:"hold"`
	Handle   string `json:"handle"`
	Password string `json:"password"`

	through digest.Digest // the layer that was pushed through the AppView
}

// startNetworks starts the sandbox when the first row needs it, and the one from before.
func (b *bench) startNetworks(ctx context.Context) error {
	if b.servers[appview] != nil {
		return nil
	}
	program := filepath.Join(b.Folder, "sandbox")
	if err := rounds.Build(ctx, program, "examples/sandbox"); err != nil {
		return err
	}
	s, err := b.startNetwork(ctx, appview, program)
	if err != nil {
		return err
	}
	b.servers[hold] = &server{name: hold, addr: strings.TrimPrefix(s.net.Hold, "http://"), net: s.net}
	if b.config.sandbox != "" && b.Against != "" {
		_, err = b.startNetwork(ctx, before(appview), b.config.sandbox)
	}
	return err
}

func (b *bench) startNetwork(ctx context.Context, name, program string) (*server, error) {
	cmd := exec.Command(program, "--registry", "127.0.0.1:0", "--hold", "127.0.0.1:0", "--pds", "127.0.0.1:0",
		"--data", filepath.Join(b.Folder, "network of "+name), "--json")
	s := &server{name: name, cmd: cmd, net: &network{}}
	rounds.DieWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b.servers[name] = s
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the sandbox said nothing: %w", err)
	}
	if err := json.Unmarshal(line, s.net); err != nil {
		return nil, fmt.Errorf("the sandbox said %q: %w", line, err)
	}
	s.addr = s.net.Registry
	s.idle, _ = s.memory()
	return s, nil
}

func (n *network) repo() string { return n.Handle + "/app" }

// token signs in as docker does; without push anonymously.
func (n *network) token(ctx context.Context, push bool) (string, error) {
	actions := "pull"
	if push {
		actions = "pull,push"
	}
	q := url.Values{"service": {n.Registry}, "scope": {"repository:" + n.repo() + ":" + actions}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Registry+"/auth/token?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	if push {
		req.SetBasicAuth(n.Handle, n.Password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || answer.Token == "" {
		return "", fmt.Errorf("token: %s, %w", resp.Status, err)
	}
	return answer.Token, nil
}

// pushThrough pushes one image with the large layer to the network, and a small one to distribution.
func pushThrough(ctx context.Context, b *bench, s *server) error {
	if s.name == dist {
		return pushImage(ctx, b, s)
	}
	if s.name == hold || s.filled {
		return nil
	}
	token, err := s.net.token(ctx, true)
	if err != nil {
		return err
	}
	p := newPusher(s)
	defer p.close()
	p.token = token
	layer, d := b.freshLayer()
	s.net.through = d
	config := sizedBlob(configSize)
	small := sizedBlob(layerSize)
	for _, blob := range [][]byte{config, small, layer} {
		if err := p.putBlob(ctx, s.net.repo(), blob, digest.FromBytes(blob), false); err != nil {
			return err
		}
	}
	s.filled = true
	// A tag of its own names the large layer, so that it may be pulled.
	if err := p.putManifest(ctx, s.net.repo(), "big", manifest(config, layer, 0)); err != nil {
		return err
	}
	return p.putManifest(ctx, s.net.repo(), "v1", manifest(config, small, 0))
}

// getThrough asks the AppView for the manifest by tag, anonymously, and distribution for the same.
func getThrough(ctx context.Context, b *bench, s *server) (float64, error) {
	m := manifest(sizedBlob(configSize), sizedBlob(layerSize), 0)
	if s.name == dist {
		req := request(s, "/v2/"+repo+"/manifests/v1")
		return getAll(ctx, s, 16, b.scale(30_000)/4, func(int) []byte { return req }, int64(len(m)))
	}
	token, err := s.net.token(ctx, false)
	if err != nil {
		return 0, err
	}
	req := request(s, "/v2/"+s.net.repo()+"/manifests/v1", "Authorization: Bearer "+token)
	return getAll(ctx, s, 16, b.scale(30_000)/2, func(int) []byte { return req }, int64(len(m)))
}

// getLayerThrough pulls the layer as a client does, following redirects; from the hold without the AppView in front.
func getLayerThrough(ctx context.Context, b *bench, s *server) (float64, error) {
	const clients, times = 2, 4
	direct, err := s.net.layerAddress(ctx)
	if err != nil {
		return 0, err
	}
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, ReadBufferSize: 1 << 20}}
	defer c.CloseIdleConnections()
	token, err := s.net.token(ctx, false)
	if err != nil {
		return 0, err
	}
	buffers := [clients][]byte{make([]byte, 1<<20), make([]byte, 1<<20)}
	rate, err := timed(clients, times, func(client, _ int) error {
		at := direct
		if s.name != hold {
			at = "http://" + s.addr + "/v2/" + s.net.repo() + "/blobs/" + s.net.through.String()
		}
		resp, err := s.net.ask(ctx, c, at, token)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		n, err := drain(resp.Body, buffers[client])
		if err == nil && n != int64(len(b.layer)) {
			err = fmt.Errorf("%s: %d bytes, want %d", resp.Status, n, len(b.layer))
		}
		return err
	})
	return rate * float64(len(b.layer)) / 1e6, err
}

// layerAddress is where the AppView sends readers in the end.
func (n *network) layerAddress(ctx context.Context) (string, error) {
	token, err := n.token(ctx, false)
	if err != nil {
		return "", err
	}
	resp, err := n.ask(ctx, http.DefaultClient, "http://"+n.Registry+"/v2/"+n.repo()+"/blobs/"+n.through.String(), token)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("layer: %s", resp.Status)
	}
	at := resp.Request.URL
	if at.Host == n.Registry {
		return "", errors.New("the AppView gives the layer itself instead of sending to the hold")
	}
	return at.String(), nil
}

func (n *network) ask(ctx context.Context, c *http.Client, at, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(at, "http://"+n.Registry+"/") {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return c.Do(req)
}

// drain reads to the end in large pieces.
func drain(r io.Reader, buf []byte) (total int64, err error) {
	for {
		n, err := r.Read(buf)
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
