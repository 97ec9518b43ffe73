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

// network is the first line that the sandbox prints.
type network struct {
	Registry string `json:"registry"`
	Hold     string `json:"hold"`
	Handle   string `json:"handle"`
	Password string `json:"password"`
}

// startNetwork starts the sandbox when the first row needs it.
func (b *bench) startNetwork(ctx context.Context) error {
	if b.servers[appview] != nil {
		return nil
	}
	program := filepath.Join(b.dir, "sandbox")
	if err := build(ctx, program, "examples/sandbox"); err != nil {
		return err
	}
	cmd := exec.Command(program, "--registry", "127.0.0.1:0", "--hold", "127.0.0.1:0", "--pds", "127.0.0.1:0",
		"--data", filepath.Join(b.dir, "network"), "--json")
	s := &server{name: appview, cmd: cmd}
	rounds.DieWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.servers[appview] = s
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the sandbox said nothing: %w", err)
	}
	if err := json.Unmarshal(line, &b.net); err != nil {
		return fmt.Errorf("the sandbox said %q: %w", line, err)
	}
	s.addr = b.net.Registry
	s.idle, _ = s.memory()
	b.servers[hold] = &server{name: hold, addr: strings.TrimPrefix(b.net.Hold, "http://")}
	return nil
}

func (b *bench) appRepo() string { return b.net.Handle + "/app" }

// token signs in as docker does; without push anonymously.
func (b *bench) token(ctx context.Context, push bool) (string, error) {
	actions := "pull"
	if push {
		actions = "pull,push"
	}
	q := url.Values{"service": {b.net.Registry}, "scope": {"repository:" + b.appRepo() + ":" + actions}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.net.Registry+"/auth/token?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	if push {
		req.SetBasicAuth(b.net.Handle, b.net.Password)
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
	if s.name != appview || s.filled {
		return nil
	}
	token, err := b.token(ctx, true)
	if err != nil {
		return err
	}
	p := newPusher(s)
	defer p.close()
	p.token = token
	layer, d := b.freshLayer()
	b.through = d
	config := sizedBlob(configSize)
	small := sizedBlob(layerSize)
	for _, blob := range [][]byte{config, small, layer} {
		if err := p.putBlob(ctx, b.appRepo(), blob, digest.FromBytes(blob), false); err != nil {
			return err
		}
	}
	s.filled = true
	// A tag of its own names the large layer, so that it may be pulled.
	if err := p.putManifest(ctx, b.appRepo(), "big", manifest(config, layer, 0)); err != nil {
		return err
	}
	return p.putManifest(ctx, b.appRepo(), "v1", manifest(config, small, 0))
}

// getThrough asks the AppView for the manifest by tag, anonymously, and distribution for the same.
func getThrough(ctx context.Context, b *bench, s *server) (float64, error) {
	m := manifest(sizedBlob(configSize), sizedBlob(layerSize), 0)
	if s.name == dist {
		req := request(s, "/v2/"+repo+"/manifests/v1")
		return getAll(ctx, s, 16, b.scale(30_000)/4, func(int) []byte { return req }, int64(len(m)))
	}
	token, err := b.token(ctx, false)
	if err != nil {
		return 0, err
	}
	req := request(s, "/v2/"+b.appRepo()+"/manifests/v1", "Authorization: Bearer "+token)
	return getAll(ctx, s, 16, b.scale(30_000)/2, func(int) []byte { return req }, int64(len(m)))
}

// getLayerThrough pulls the layer as a client does, following redirects; from the hold without the AppView in front.
func getLayerThrough(ctx context.Context, b *bench, s *server) (float64, error) {
	const clients, times = 2, 4
	direct, err := b.layerAddress(ctx)
	if err != nil {
		return 0, err
	}
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, ReadBufferSize: 1 << 20}}
	defer c.CloseIdleConnections()
	token, err := b.token(ctx, false)
	if err != nil {
		return 0, err
	}
	buffers := [clients][]byte{make([]byte, 1<<20), make([]byte, 1<<20)}
	rate, err := timed(clients, times, func(client, _ int) error {
		at := direct
		if s.name == appview {
			at = "http://" + s.addr + "/v2/" + b.appRepo() + "/blobs/" + b.through.String()
		}
		resp, err := b.ask(ctx, c, at, token)
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
func (b *bench) layerAddress(ctx context.Context) (string, error) {
	token, err := b.token(ctx, false)
	if err != nil {
		return "", err
	}
	resp, err := b.ask(ctx, http.DefaultClient, "http://"+b.net.Registry+"/v2/"+b.appRepo()+"/blobs/"+b.through.String(), token)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("layer: %s", resp.Status)
	}
	at := resp.Request.URL
	if at.Host == b.net.Registry {
		return "", errors.New("the AppView gives the layer itself instead of sending to the hold")
	}
	return at.String(), nil
}

func (b *bench) ask(ctx context.Context, c *http.Client, at, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(at, "http://"+b.net.Registry+"/") {
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
