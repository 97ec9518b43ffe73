package realtest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// A network starts in a second, and in ten where many tests share two cores. Once in
// some dozens of starts one hangs, so it is given up after startLimit and tried once
// more. Before that, reading its thousand files is a matter of the machine alone.
const (
	loadLimit  = 3 * time.Minute
	startLimit = time.Minute
)

// stacks is the one stack that all tests of this process share. Only tests import
// this package, and what is shared dies with the process, so it may be a global.
var stacks struct {
	sync.Mutex
	current *atprotoStack
}

// An atprotoStack is a Node process that serves the networks of many tests, since
// loading the packages is what takes long. It ends when the test process closes its
// standard input by ending, however that comes about. Safe for concurrent use.
type atprotoStack struct {
	process *Process
	loaded  chan struct{} // closed when the packages are loaded

	mu      sync.Mutex
	last    int                        // id of a command
	waiting map[int]chan<- stackAnswer // by the command's id
	once    sync.Once                  // of loaded
}

type stackCommand struct {
	ID int    `json:"id"`
	Do string `json:"do"`

	// Of "open".
	State       string   `json:"state,omitempty"`
	Accounts    []string `json:"accounts,omitempty"`
	PublicPorts []int    `json:"publicPorts,omitempty"`
	Hostname    string   `json:"hostname,omitempty"`
	PDSPort     int      `json:"pdsPort,omitempty"`
	PLCPort     int      `json:"plcPort,omitempty"`

	Network int `json:"network,omitempty"` // of all others
	PDS     int `json:"pds"`               // a number of PDSes in "open", else which one
}

type stackAnswer struct {
	ID            int                `json:"id"`
	Error         string             `json:"error"`
	PLC           string             `json:"plc"`
	PDS           []string           `json:"pds"`
	PDSLocal      []string           `json:"pdsLocal"`
	AdminPassword string             `json:"adminPassword"`
	Accounts      map[string]Account `json:"accounts"`
}

// sharedStack returns the stack of this process; broken, if not nil, is not used any more.
func sharedStack(broken *atprotoStack) (*atprotoStack, error) {
	stacks.Lock()
	defer stacks.Unlock()
	if s := stacks.current; s != nil && s != broken && !s.ended() {
		return s, nil
	}
	s, err := startStack(nil)
	stacks.current = s
	return s, err
}

// startStack starts a stack, on a host if one is given, and does not wait for it.
func startStack(on *Host) (*atprotoStack, error) {
	command, err := tools.StackCommand()
	if err != nil {
		return nil, err
	}
	s := &atprotoStack{loaded: make(chan struct{}), waiting: map[int]chan<- stackAnswer{}}
	c := Command{
		Name: "atproto stack", Path: command[0], Args: command[1:], Each: s.take,
		Env: []string{"LOG_ENABLED=false", "NODE_COMPILE_CACHE=" + filepath.Join(tools.Dir(), "atproto", "compiled")},
	}
	if on != nil {
		c = on.Command(c)
	}
	s.process, err = start(c)
	return s, err
}

// take takes a line that the stack printed: an answer, or something else.
func (s *atprotoStack) take(line string) {
	var a struct {
		stackAnswer
		Loaded bool `json:"loaded"`
	}
	if len(line) == 0 || line[0] != '{' || json.Unmarshal([]byte(line), &a) != nil {
		return
	}
	if a.Loaded {
		s.once.Do(func() { close(s.loaded) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting, ok := s.waiting[a.ID]; ok {
		delete(s.waiting, a.ID)
		waiting <- a.stackAnswer
	}
}

func (s *atprotoStack) ended() bool {
	select {
	case <-s.process.Done():
		return true
	default:
		return false
	}
}

// do sends a command and returns its answer. The id is the command's number.
func (s *atprotoStack) do(c stackCommand) (stackAnswer, error) {
	select {
	case <-s.loaded:
	case <-s.process.Done():
		return stackAnswer{}, fmt.Errorf("atproto stack ended:\n%s", s.process.Log())
	case <-time.After(loadLimit):
		return stackAnswer{}, fmt.Errorf("atproto stack did not load in %s:\n%s", loadLimit, s.process.Log())
	}
	got := make(chan stackAnswer, 1)
	s.mu.Lock()
	s.last++
	c.ID = s.last
	s.waiting[c.ID] = got
	line, err := json.Marshal(c)
	if err == nil {
		err = s.process.Send(string(line)) // under the lock, so that lines stay whole
	}
	s.mu.Unlock()
	if err != nil {
		return stackAnswer{}, err
	}
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	select {
	case a := <-got:
		if a.Error != "" {
			return a, fmt.Errorf("atproto stack: %s", a.Error)
		}
		return a, nil
	case <-s.process.Done():
		return stackAnswer{}, fmt.Errorf("atproto stack ended:\n%s", s.process.Log())
	case <-timer.C:
		return stackAnswer{}, fmt.Errorf("atproto stack: no answer to %q in %s:\n%s", c.Do, startLimit, s.process.Log())
	}
}
