package hold

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/repo/firehose"
)

const (
	lookForRelays  = 5 * time.Second
	askRelaysEvery = 10 * time.Minute // while nobody follows
	relayWait      = 20 * time.Second
)

func (s *Server) openFirehose(context.Context) error {
	s.firehose = firehose.New(s.repo, &firehose.Options{Log: s.log})
	s.onClose(s.firehose.Close)
	return nil
}

// askRelays asks the configured relays to follow us: now, soon after the last of those who did has gone, and now and then
// while nobody does.
func (s *Server) askRelays(ctx context.Context) {
	if len(s.cfg.Relays) == 0 {
		return
	}
	client := httpx.NewClient(httpx.ClientOptions{Guard: s.cfg.guard(), Timeout: relayWait, UserAgent: "atcr-hold"})
	defer client.CloseIdleConnections()
	tick := time.NewTicker(lookForRelays)
	defer tick.Stop()
	var asked time.Time // zero: somebody has followed since
	for {
		switch {
		case s.firehose.Consumers() > 0:
			asked = time.Time{}
		case time.Since(asked) >= askRelaysEvery:
			for _, relay := range s.cfg.Relays {
				s.requestCrawl(ctx, client, relay)
			}
			asked = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) requestCrawl(ctx context.Context, client *http.Client, relay string) {
	if s.cfg.TestMode && strings.HasPrefix(relay, "https:") {
		return // the public network has no use for a hold at home
	}
	body, err := json.Marshal(map[string]string{"hostname": s.host()})
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(relay, "/")+"/xrpc/com.atproto.sync.requestCrawl", bytes.NewReader(body))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			httpx.Drain(resp)
			if resp.StatusCode != http.StatusOK {
				s.log.Warn("a relay refuses to follow the hold", "relay", relay, "status", resp.StatusCode)
			}
			return
		}
	}
	if ctx.Err() == nil {
		s.log.Warn("a relay could not be asked to follow the hold; it is asked again", "relay", relay, "error", err, "in", askRelaysEvery.String())
	}
}
