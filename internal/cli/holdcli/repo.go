package holdcli

import (
	"bufio"
	"encoding/json"
	"io"
	"iter"

	"github.com/atcr-dev/atcr/repo"
)

// CARJSON is what `repo verify --json` prints.
func CARJSON(i repo.CARInfo, signature string) any {
	return struct {
		DID       string `json:"did"`
		Rev       string `json:"rev"`
		Commit    string `json:"commit"`
		Records   int64  `json:"records"`
		Nodes     int64  `json:"nodes"`
		Blobs     int64  `json:"blobs"`
		Signature string `json:"signature"` // good, or not checked
		// Records that no import takes, and what is wrong with the first.
		NotCanonical      int64  `json:"notCanonical,omitempty"`
		FirstNotCanonical string `json:"firstNotCanonical,omitempty"`
	}{i.DID, i.Rev, i.Commit.String(), i.Records, i.Nodes, i.Blobs, signature, i.NotCanonical, errorText(i.FirstNotCanonical)}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// ImportedJSON is what `repo import --json` prints.
func ImportedJSON(got repo.Imported, dryRun bool) any {
	type change struct {
		Action string `json:"action"`
		Path   string `json:"path"`
	}
	out := struct {
		DryRun    bool     `json:"dryRun"`
		Created   int64    `json:"created"`
		Updated   int64    `json:"updated"`
		Unchanged int64    `json:"unchanged"`
		Changes   []change `json:"changes"` // the first thousand
		Commit    string   `json:"commit,omitempty"`
		Rev       string   `json:"rev,omitempty"`
	}{DryRun: dryRun, Created: got.Created, Updated: got.Updated, Unchanged: got.Unchanged, Changes: []change{}}
	for _, k := range got.Keys {
		out.Changes = append(out.Changes, change{string(k.Action), k.Path})
	}
	if got.Commit.CID.Defined() {
		out.Commit, out.Rev = got.Commit.CID.String(), got.Commit.Rev
	}
	return out
}

// jsonList prints a list of JSON as its items come, one a line.
type jsonList struct {
	out  *bufio.Writer
	some bool
}

func newJSONList(w io.Writer) *jsonList {
	out := bufio.NewWriter(w)
	_, _ = out.WriteString("[") // the Flush tells
	return &jsonList{out: out}
}

func (l *jsonList) add(item any) error {
	line, err := json.Marshal(item)
	if err != nil {
		return err
	}
	sep := "\n  "
	if l.some {
		sep = ",\n  "
	}
	l.some = true
	_, err = l.out.WriteString(sep + string(line))
	return err
}

func (l *jsonList) close() error {
	if l.some {
		_ = l.out.WriteByte('\n')
	}
	_, _ = l.out.WriteString("]\n")
	return l.out.Flush()
}

// RecordsJSON prints records as they come, as a list of path and CID.
func RecordsJSON(w io.Writer, records iter.Seq2[repo.Record, error]) error {
	list := newJSONList(w)
	for rec, err := range records {
		if err != nil {
			return err
		}
		err := list.add(struct {
			Path string `json:"path"`
			CID  string `json:"cid"`
		}{rec.Path(), rec.CID.String()})
		if err != nil {
			return err
		}
	}
	return list.close()
}

// recordDiff is a record that differs between A and B, as `repo diff --json` prints it.
type recordDiff struct {
	Path string `json:"path"`
	A    string `json:"a,omitempty"` // CID; empty: not in A
	B    string `json:"b,omitempty"`
}
