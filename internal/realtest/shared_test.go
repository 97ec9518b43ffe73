package realtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

const sharedChild = "ATCR_TEST_SHARED_CHILD"

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestNetworksInOneProcess: two networks with the same handles know nothing of each other, and one outlives the other.
func TestNetworksInOneProcess(t *testing.T) {
	Need(t, tools.ATProto)
	var one, two *Net
	t.Run("both", func(t *testing.T) {
		one = Network(t, NetworkOptions{Accounts: []string{"alice"}})
		t.Run("inner", func(t *testing.T) {
			two = Network(t, NetworkOptions{Accounts: []string{"alice"}})
			if one.stack != two.stack {
				t.Error("a second process was started")
			}
			if one.Account("alice").DID == two.Account("alice").DID {
				t.Error("both networks have the same account")
			}
			resp, err := http.Get(two.PLC + "/" + one.Account("alice").DID)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("one network's directory answers %s for the other's account", resp.Status)
			}
		})
		if got := one.Records(t, "alice", "io.atcr.tag"); len(got) != 0 {
			t.Errorf("records %v", got)
		}
		if _, err := ListRecords(t.Context(), two.PDS[0], two.Account("alice").DID, "io.atcr.tag"); err == nil {
			t.Error("a network that was closed answers")
		}
	})
}

// TestSharedEnds: what tests share ends with their process, also when it is killed.
func TestSharedEnds(t *testing.T) {
	Need(t, tools.ATProto, tools.PostgreSQL)
	if os.Getenv(sharedChild) != "" {
		server := Postgres(t)
		first, second := server.Database(t), server.Database(t)
		if Postgres(t) != server || first == second {
			t.Error("want one cluster, and a schema for each who asks")
		}
		n := Network(t, NetworkOptions{Accounts: []string{"alice"}})
		started := startedProcesses{Dir: server.dir, PIDs: append(childrenOf(server.process.Pid()), server.process.Pid(), n.stack.process.Pid())}
		if err := json.NewEncoder(os.Stdout).Encode(started); err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent has seen enough
		return
	}
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%v", kill), func(t *testing.T) {
			p := Start(t, Command{Path: os.Args[0], Args: []string{"-test.run=^TestSharedEnds$"}, Env: []string{sharedChild + "=1"}})
			var started startedProcesses
			for started.Dir == "" {
				line, err := p.Line(loadLimit)
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(line, "{") {
					if err := json.Unmarshal([]byte(line), &started); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, pid := range started.PIDs {
				if !running(pid) {
					t.Errorf("process %d does not run", pid)
				}
			}
			if kill {
				_ = p.Signal(os.Kill) // not its group
				<-p.Done()
				defer os.RemoveAll(started.Dir)
			} else if err := p.Send("enough"); err != nil {
				t.Fatal(err)
			} else if <-p.Done(); p.err != nil {
				t.Errorf("%v\n%s", p.err, p.Log())
			}
			if err := WaitFor(time.Minute, func() error {
				for _, pid := range started.PIDs {
					if running(pid) {
						return fmt.Errorf("process %d is still there", pid)
					}
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(started.Dir); !kill && !os.IsNotExist(err) {
				t.Errorf("the cluster's folder: %v", err)
			}
		})
	}
}

type startedProcesses struct {
	Dir  string
	PIDs []int
}
