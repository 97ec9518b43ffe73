package plc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
)

const childEnv = "ATCR_TEST_PLC_CHILD"

// childJob is what a process that is to die does.
type childJob struct {
	Dir, PLC, URL string
	Verb          string // boot, signing, rotation
	Point         string // to die at
}

// TestMain runs a job when the environment names one.
func TestMain(m *testing.M) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	if err := job.run(); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	os.Exit(0)
}

func (j *childJob) config() identity.Config {
	return identity.Config{
		Dir: j.Dir, PublicURL: j.URL, Method: "plc", PLCURL: j.PLC, Services: identity.HoldServices(), TestMode: true,
	}
}

func (j *childJob) run() error {
	cfg := j.config()
	ctx := crashpoint.With(context.Background(), func(name string) error {
		if name == j.Point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
	id, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		return err
	}
	m, err := plc.NewManager(id, cfg)
	if err != nil {
		return err
	}
	switch j.Verb {
	case "signing":
		_, err = m.Rotate(ctx, plc.RotateOptions{})
	case "rotation":
		_, err = m.Rotate(ctx, plc.RotateOptions{Key: plc.RotationKey, Type: "p256"})
	default:
		_, err = identity.EnsurePLCCurrent(ctx, id, cfg)
	}
	return err
}

// die runs the job in a process and reports whether it was killed at its point.
func (j childJob) die(t *testing.T) bool {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if len(out) > 0 {
		t.Logf("%s %s: %s", j.Verb, j.Point, strings.TrimSpace(string(out)))
	}
	return false
}

// weather is what the directory does while the process dies.
type weather string

const (
	up      weather = "up"
	down    weather = "down"
	slow    weather = "slow"
	lostAns weather = "answers lost"
)

func (w weather) set(n *plcNet) *realtest.Injected {
	switch w {
	case down:
		return n.proxy.Inject(realtest.Fault{Kind: realtest.Drop, Times: -1, Optional: true})
	case slow:
		return n.proxy.Inject(realtest.Fault{Kind: realtest.Delay, Wait: 100 * time.Millisecond, Times: -1, Optional: true})
	case lostAns:
		return n.proxy.Inject(realtest.Fault{Kind: realtest.DropDone, Method: "POST", Times: -1, Optional: true})
	}
	return nil
}

// dies lists which points a verb passes in which weather.
func dies() (all []struct {
	verb, point string
	weather     weather
}) {
	add := func(verb string, w weather, points ...string) {
		for _, s := range points {
			all = append(all, struct {
				verb, point string
				weather     weather
			}{verb, s, w})
		}
	}
	create := []string{"signing-key-durable", "rotation-key-durable", "genesis-durable", "did-durable", "genesis-submitted"}
	rotate := []string{"next-key-durable", "update-signed", "update-submitted", "next-key-confirmed", "next-key-promoted"}
	for _, w := range []weather{up, down, slow, lostAns} {
		add("create", w, create...)
	}
	for _, verb := range []string{"signing", "rotation"} {
		for _, w := range []weather{up, slow, lostAns} {
			add(verb, w, rotate...)
		}
		add(verb, down, "next-key-durable")
	}
	for _, w := range []weather{up, slow, lostAns} {
		add("move", w, "update-signed", "update-submitted")
	}
	return all
}

// testPLCKill kills the process at each crash point of creation, update and key rotation, in each weather; then the service
// starts in the same weather, which must have met it, and in good weather: one DID, one genesis, and the keys on disk are
// those that the directory names. It is eight of them by chance, with ATCR_LONG all.
func testPLCKill(t *testing.T, n *plcNet) {
	all := dies()
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d, %d points", seed, len(all))
	if os.Getenv("ATCR_LONG") == "" {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:8]
	}
	for _, d := range all {
		t.Run(d.verb+" "+d.point+" "+string(d.weather), func(t *testing.T) {
			job := childJob{Dir: t.TempDir(), PLC: n.proxy.URL, URL: "https://hold.example.com", Verb: d.verb, Point: d.point}
			cfg := n.config(job.Dir)
			var before syntax.DID
			if d.verb != "create" {
				id, _ := mustBoot(t, cfg)
				before = id.DID
			}
			if d.verb == "move" {
				job.URL, job.Verb = "https://moved.example.org", "boot"
				cfg.PublicURL = job.URL
			}
			fault := d.weather.set(n)
			if !job.die(t) {
				t.Fatalf("the process was not killed at %s", d.point)
			}
			if rng.IntN(2) == 0 { // and once more, on what it left
				job.die(t)
			}
			if fault != nil {
				again := job // a start in the same weather: some points come before the first request
				again.Verb, again.Point = "boot", ""
				again.die(t)
				if fault.Fired() == 0 {
					t.Errorf("%s: no request met the directory so", d.weather)
				}
			}
			n.proxy.Clear()
			n.proxy.Requests()

			id, s := mustBoot(t, cfg)
			again, s2 := mustBoot(t, cfg)
			if again.DID != id.DID || before != "" && before != id.DID {
				t.Fatalf("two DIDs: %s, %s, %s", before, id.DID, again.DID)
			}
			if len(s2.Drift) > 0 || s2.Updated || !s2.MayUpdate {
				t.Errorf("not settled: %+v, then %+v", s, s2)
			}
			log := n.log(t, id.DID)
			for i, e := range log.Entries {
				if e.Operation.AsOperation().IsGenesis() != (i == 0) {
					t.Error("more than one genesis")
				}
			}
			op := n.head(t, id.DID)
			if op.VerificationMethods["atproto"] != didKey(t, id.Key) || !slices.Contains(op.RotationKeys, didKey(t, id.Rotation)) {
				t.Errorf("the directory names %v, %v; on disk are %s, %s", op.VerificationMethods, op.RotationKeys, didKey(t, id.Key),
					didKey(t, id.Rotation))
			}
			if left, _ := filepath.Glob(filepath.Join(job.Dir, "keys", "*.next")); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
			for _, r := range n.proxy.Requests() {
				if strings.HasPrefix(r, "POST") && !strings.Contains(r, id.DID.String()) {
					t.Errorf("another DID was submitted: %s", r)
				}
			}
		})
	}
}
