package hold

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/repo/firehose"
)

const (
	lookForRelays    = 5 * time.Second
	askRelaysEvery   = 10 * time.Minute // while nobody follows
	askAgain         = 4 * time.Second  // at the earliest, when the last who followed has gone
	askAgainFollowed = time.Minute      // at the earliest, when one has gone and others follow
	relayWait        = 20 * time.Second
)

// relayWatch decides when the relays are asked to follow. Who subscribes does not say that it is a relay: so one that leaves may have been
// one, whoever else still follows.
type relayWatch struct {
	asked    time.Time // zero: never
	followed bool      // somebody has followed since
	left     uint64    // how many had left when it was looked last
	gone     bool      // one has left since it was asked

	pause time.Duration // to the next ask at least: who comes and goes all the time has the relays asked ever more seldom
}

// due is whether to ask now, which it takes as done.
func (w *relayWatch) due(now time.Time, consumers int, left uint64) bool {
	w.gone = w.gone || left != w.left
	w.followed = w.followed || consumers > 0 || left != w.left
	w.left = left
	since := now.Sub(w.asked)
	wait, lost := askAgain, w.followed
	if consumers > 0 {
		wait, lost = askAgainFollowed, w.gone
	}
	wait = max(wait, w.pause)
	switch {
	case w.asked.IsZero():
	case lost && since >= wait:
		w.pause = 0
		if since < 2*wait {
			w.pause = min(2*wait, askRelaysEvery)
		}
	case consumers == 0 && since >= askRelaysEvery:
	default:
		return false
	}
	w.asked, w.followed, w.gone = now, consumers > 0, false
	return true
}

// relays are asked to follow the hold's firehose.
type relays struct {
	urls     []string
	host     string // as it is told to them
	testMode bool
	guard    httpx.Guard
	firehose *firehose.Server
	log      *slog.Logger
}

// ask asks the configured relays to follow us: at the start, soon after one that followed has gone, and now and then while nobody
// does.
func (r *relays) ask(ctx context.Context) {
	if len(r.urls) == 0 {
		return
	}
	client := httpx.NewClient(httpx.ClientOptions{Guard: r.guard, Timeout: relayWait, PublicBodies: true, UserAgent: "atcr-hold"})
	defer client.CloseIdleConnections()
	tick := time.NewTicker(lookForRelays)
	defer tick.Stop()
	var watch relayWatch
	for {
		if watch.due(time.Now(), r.firehose.Consumers(), r.firehose.Left()) {
			for _, relay := range r.urls {
				r.requestCrawl(ctx, client, relay)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *relays) requestCrawl(ctx context.Context, client *http.Client, relay string) {
	if r.testMode && strings.HasPrefix(relay, "https:") {
		return // the public network has no use for a hold at home
	}
	body, err := json.Marshal(map[string]string{"hostname": r.host})
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(relay, "/")+"/xrpc/com.atproto.sync.requestCrawl",
		bytes.NewReader(body))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			httpx.Drain(resp)
			if resp.StatusCode != http.StatusOK {
				r.log.Warn("a relay refuses to follow the hold", "relay", relay, "status", resp.StatusCode)
			}
			return
		}
	}
	if ctx.Err() == nil {
		r.log.Warn("a relay could not be asked to follow the hold; it is asked again", "relay", relay, "error", err)
	}
}
