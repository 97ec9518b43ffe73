package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/did-method-plc/go-didplc/didplc"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/identity/plc"
)

// operation is the first JSON object in a file, or what it has as "operation".
func operation(ts *testscript.TestScript, file string) []byte {
	text := ts.ReadFile(file)
	at := strings.Index("\n"+text, "\n{")
	if at < 0 {
		ts.Fatalf("%s holds no operation: %s", file, text)
	}
	var raw json.RawMessage
	ts.Check(json.NewDecoder(strings.NewReader(text[at:])).Decode(&raw))
	var plan struct{ Operation json.RawMessage }
	if json.Unmarshal(raw, &plan) == nil && plan.Operation != nil {
		return plan.Operation
	}
	return raw
}

// post sends an operation of the hold in the folder data to the directory.
func post(ts *testscript.TestScript, op []byte) (status int, text string) {
	did := strings.TrimSpace(ts.ReadFile("data/did.txt"))
	resp, err := http.Post(ts.Getenv("PLC")+"/"+did, "application/json", bytes.NewReader(op))
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return resp.StatusCode, string(body)
}

// refused makes sure that the directory refuses the operation in a file: refused FILE.
func refused(ts *testscript.TestScript, _ bool, args []string) {
	if status, text := post(ts, operation(ts, args[0])); status < 400 || status >= 500 {
		ts.Fatalf("the directory answers %d %s", status, text)
	}
}

// submits signs the operation in a file by a key, as somebody elsewhere does, and submits it: submits FILE KEYFILE.
func submits(ts *testscript.TestScript, _ bool, args []string) {
	key, err := plc.LoadKey(ts.MkAbs(args[1]))
	ts.Check(err)
	var op didplc.OpEnum
	ts.Check(json.Unmarshal(operation(ts, args[0]), &op))
	ts.Check(op.AsOperation().Sign(key))
	signed, err := json.Marshal(&op)
	ts.Check(err)
	if status, text := post(ts, signed); status != http.StatusOK {
		ts.Fatalf("the directory answers %d %s", status, text)
	}
}
