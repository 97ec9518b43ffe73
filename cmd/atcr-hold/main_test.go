package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/internal/realtest"
)

func TestMain(m *testing.M) {
	testscript.Main(realtest.Sharing(m), map[string]func(){
		"atcr-hold":            func() { program(8) }, // at age's own work factor each passphrase costs seconds under the race detector
		"atcr-hold-as-shipped": main,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			addr, err := realtest.FreeAddr()
			if err != nil {
				return err
			}
			env.Setenv("ADDR", addr)
			env.Setenv("DID", "did:web:localhost%3A"+strings.TrimPrefix(addr, "127.0.0.1:"))
			example, err := filepath.Abs("../../config-hold.example.yaml")
			env.Setenv("EXAMPLE", example)
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"answers": answers, "sets": sets, "wrapcar": wrapCAR,
			"isjson": isJSON, "firstword": firstWord, "signingkey": signingKey},
	})
}

// sets waits until a folder holds so many sets of backups, of which the third at least was made.
func sets(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	seen := map[string]bool{}
	ts.Check(realtest.WaitFor(time.Minute, func() error {
		whole, err := filepath.Glob(filepath.Join(args[0], "sets", "*", "manifest.json"))
		for _, w := range whole {
			seen[w] = true
		}
		if err == nil && (len(whole) != want || len(seen) <= want) {
			err = fmt.Errorf("%d sets, %d were made", len(whole), len(seen))
		}
		return err
	}))
}

// signingKey puts the key that signed the newest set of a folder into a variable: signingkey NAME FOLDER.
func signingKey(ts *testscript.TestScript, _ bool, args []string) {
	sets, err := filepath.Glob(filepath.Join(args[1], "sets", "*", "manifest.json"))
	ts.Check(err)
	var m struct{ SigningKey string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(slices.Max(sets))), &m))
	ts.Setenv(args[0], m.SigningKey)
}

// TestPostgres runs the verbs of the repository on a real database.
func TestPostgres(t *testing.T) {
	server := realtest.Postgres(t)
	one, two := server.Database(t), server.Database(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/postgres",
		Setup: func(env *testscript.Env) error {
			addr, err := realtest.FreeAddr()
			if err != nil {
				return err
			}
			env.Setenv("ADDR", addr)
			env.Setenv("ONE", one)
			env.Setenv("TWO", two)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"answers": answers},
	})
}

// TestIdentity runs the identity verbs against the real PLC directory.
func TestIdentity(t *testing.T) {
	n := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice", "bob"}})
	recovery, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := recovery.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/identity",
		Setup: func(env *testscript.Env) error {
			addr, err := realtest.FreeAddr()
			if err != nil {
				return err
			}
			_, port, _ := net.SplitHostPort(addr)
			env.Setenv("HOLD_SERVER_ADDR", addr)
			env.Setenv("HOLD_SERVER_PUBLIC_URL", "http://localhost:"+port)
			env.Setenv("URL", "http://localhost:"+port)
			env.Setenv("HOLD_SERVER_TEST_MODE", "true")
			env.Setenv("HOLD_DATABASE_PATH", filepath.Join(env.WorkDir, "data"))
			env.Setenv("HOLD_REGISTRATION_OWNER_DID", n.Account("alice").DID)
			env.Setenv("HOLD_IDENTITY_DID_METHOD", "plc")
			env.Setenv("HOLD_IDENTITY_PLC_DIRECTORY_URL", n.PLC)
			env.Setenv("ATCR_PASSPHRASE", "correct horse battery staple")
			env.Setenv("PLC", n.PLC)
			env.Setenv("PDS", n.PDS[0])
			env.Setenv("BOB", n.Account("bob").Handle)
			env.Setenv("BOB_DID", n.Account("bob").DID)
			env.Setenv("ALICE", n.Account("alice").Handle)
			env.Setenv("RECOVERY", pub.DIDKey())
			return os.WriteFile(filepath.Join(env.WorkDir, "recovery.key"), []byte(recovery.Multibase()), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"answers": answers, "firstword": firstWord, "shows": shows, "isjson": isJSON, "refused": refused, "submits": submits,
		},
	})
}

// isJSON makes sure that a file is one value of JSON and nothing else: isjson FILE.
func isJSON(ts *testscript.TestScript, _ bool, args []string) {
	if text := ts.ReadFile(args[0]); !json.Valid([]byte(text)) {
		ts.Fatalf("%s is not JSON alone: %s", args[0], text)
	}
}

// firstWord puts the first word of a file's line into a variable: firstword NAME FILE LINE; line -1 is the last.
func firstWord(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[1])), "\n")
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	if n < 0 {
		n += len(lines)
	}
	ts.Setenv(args[0], strings.Fields(lines[n])[0])
}

// shows makes sure that what a URL answers has a text: shows URL TEXT.
func shows(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if !strings.Contains(string(body), args[1]) {
		ts.Fatalf("%s has no %s: %s", args[0], args[1], body)
	}
}

// answers waits until a URL gives 200.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := http.Get(args[0])
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not answer 200: %v", args[0], err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
