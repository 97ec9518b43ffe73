package archtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// notLimits are the constants called max… that bound nothing that anybody else can cause: they have no row in docs/security.md.
var notLimits = map[string]string{
	"hold.maxWrites":                          "writes that are put into one commit",
	"hold/internal/crew.maxFile":              "our own file",
	"hold/internal/ledger.maxLayerWrites":     "writes that are put into one commit",
	"identity/internal/plclog.maxHistory":     "our own file",
	"identity/oauth.maxClientKeys":            "our own file",
	"identity/internal/plclog.maxRaces":       "tries",
	"identity/plc.MaxLog":                     "another name of plclog.MaxLog",
	"identity/plc.MaxOperation":               "another name of plclog.MaxOperation",
	"internal/config.maxFile":                 "our own file",
	"internal/durable.MaxSecret":              "our own file",
	"registry.maxParents":                     "names in one message",
	"registry/auth.maxCertBytes":              "our own file",
	"registry/local.maxGroup":                 "pushes in one transaction",
	"registry/local.maxRemembered":            "uploads that are remembered with their accounts",
	"registry/pds.maxAttempts":                "tries",
	"registry/pds.maxHot":                     "which manifests are kept in memory, too",
	"registry/pds.maxWrites":                  "writes that are put into one call",
	"registry/pds/internal/settle.maxBackoff": "time between tries",
	"registry/pds/internal/uploads.maxStates": "rows that are kept in memory, too",
	"repo.maxGroup":                           "commits in one transaction",
	"repo.maxPage":                            "rows that are read ahead",
	"repo.maxTranscode":                       "what the quick way takes; the other takes the rest",
	"repo.maxTranscodeDepth":                  "likewise",
	"repo.maxTranscodeDigit":                  "likewise",
	"repo.maxTranscodeItems":                  "likewise",
	"repo.maxTranscodeKey":                    "likewise",
	"repo/sqlstore.maxRows":                   "rows in one statement",
	"storage/filestore.maxPipelines":          "copies that hash beside writing",
	"storage/filestore.maxResting":            "uploads that are kept in memory, too",
}

// limit is a row of the table of docs/security.md.
type limit struct {
	what, def, key, where string
	line                  int
}

// limitRows reads the table.
func limitRows(text string) (rows []limit, err error) {
	_, table, ok := strings.Cut(text, "\n| limit | default | key or Go field | where |\n")
	if !ok {
		return nil, fmt.Errorf("there is no table of limits")
	}
	line := strings.Count(text[:len(text)-len(table)], "\n")
	for row := range strings.SplitSeq(table, "\n") {
		line++
		if !strings.HasPrefix(row, "|") {
			break
		}
		cells := strings.Split(strings.Trim(row, "| "), "|")
		if strings.HasPrefix(row, "| ---") || strings.HasPrefix(row, "| **") {
			continue
		}
		if len(cells) != 4 {
			return nil, fmt.Errorf("line %d has %d cells, want 4: limit | default | key or Go field | where", line, len(cells))
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, limit{cells[0], cells[1], strings.Trim(cells[2], "`"), strings.Trim(cells[3], "`"), line})
	}
	return rows, nil
}

// units in the smallest one: bytes, nanoseconds.
var units = map[string]int64{
	"": 1, "bytes": 1, "bytes/s": 1, "KiB": 1 << 10, "KiB/s": 1 << 10, "MiB": 1 << 20, "MiB/s": 1 << 20, "GiB": 1 << 30,
	"ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9, "days": 24 * 3600e9,
}

var quantity = regexp.MustCompile(`^([0-9][0-9 ]*?)(?: ?([a-zA-Z/]+))?$`)

// parseQuantity reads a default, as in "10 000", "64 KiB", "7 days". "none" is 0.
func parseQuantity(s string) (int64, error) {
	if s == "none" {
		return 0, nil
	}
	m := quantity.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is no number with a unit", s)
	}
	unit, ok := units[m[2]]
	if !ok {
		return 0, fmt.Errorf("%q: unknown unit, want one of %q", s, slices.Sorted(maps.Keys(units)))
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(m[1], " ", ""), 10, 64)
	return n * unit, err
}

// check compares a row with the code.
func (l limit) check(s *sources, configs map[string]string) error {
	want, err := parseQuantity(l.def)
	if err != nil {
		return fmt.Errorf("default: %w", err)
	}
	dir, name, ok := cutName(l.where)
	if !ok {
		return fmt.Errorf("where: want FOLDER.NAME of a constant, or of the field that the default goes to, not %q", l.where)
	}
	found, err := s.values(dir, name)
	if err != nil {
		return err
	}
	switch {
	case l.def == "none":
		if len(found) > 0 {
			return fmt.Errorf("%s is %v in the code, no limit in the table", l.where, found)
		}
	case len(found) == 0:
		return fmt.Errorf("%s: no constant has that name, and no field of it gets a default that is one", l.where)
	case !slices.Contains(found, want):
		return fmt.Errorf("%s is %v in the code; %q is %d", l.where, found, l.def, want)
	}
	return l.checkKey(s, configs, want)
}

var configKey = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)+$`)

func (l limit) checkKey(s *sources, configs map[string]string, want int64) error {
	if l.key == "—" {
		return nil
	}
	if value, ok := configs[l.key]; ok {
		if got, err := parseSetting(value); err != nil || got != want {
			return fmt.Errorf("the key %s has the default %q in the example configuration, %q here (%v)", l.key, value, l.def, err)
		}
		return nil
	}
	if configKey.MatchString(l.key) {
		return fmt.Errorf("no example configuration has the key %s", l.key)
	}
	rest, field, ok := cutLast(l.key)
	dir, typ, ok2 := cutName(rest)
	if !ok || !ok2 || !s.hasField(dir, typ, field) {
		return fmt.Errorf("%q is neither a configuration key nor FOLDER.TYPE.FIELD of a struct; — stands for none", l.key)
	}
	return nil
}

// parseSetting reads a value of a configuration: a count or a duration (1h30m).
func parseSetting(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	d, err := time.ParseDuration(s)
	return int64(d), err
}

// exampleKeys reads the keys of both example configurations with their defaults.
func exampleKeys(t *testing.T) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, name := range []string{"config-appview.example.yaml", "config-hold.example.yaml"} {
		text, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		var sections map[string]any
		if err := yaml.Unmarshal(text, &sections); err != nil {
			t.Fatal(err)
		}
		for name, section := range sections {
			section, _ := section.(map[string]any)
			for key, value := range section {
				keys[name+"."+key] = fmt.Sprint(value)
			}
		}
	}
	return keys
}

func cutName(s string) (dir, name string, ok bool) {
	slash := strings.LastIndexByte(s, '/') + 1
	folder, name, ok := strings.Cut(s[slash:], ".")
	return s[:slash] + folder, name, ok && name != "" && folder != ""
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// The table of docs/security.md says what the code says, and no limit is missing from it.
func TestLimits(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := limitRows(string(text))
	if err != nil {
		t.Fatal("docs/security.md: ", err)
	}
	if len(rows) < 100 {
		t.Fatalf("docs/security.md has %d limits only", len(rows))
	}
	s, configs := newSources(root(t)), exampleKeys(t)
	have := map[string]int{}
	for _, l := range rows {
		if first := have[l.where+" "+l.key]; first != 0 {
			t.Errorf("docs/security.md:%d: %s stands in line %d already", l.line, l.where, first)
		}
		have[l.where+" "+l.key], have[l.where] = l.line, l.line
		if err := l.check(s, configs); err != nil {
			t.Errorf("docs/security.md:%d: %s: %v", l.line, l.what, err)
		}
	}
	seen := map[string]bool{}
	for _, name := range maxConstants(t, s) {
		seen[name] = true
		switch _, known := notLimits[name]; {
		case have[name] == 0 && !known:
			t.Errorf("%s has no row in docs/security.md: add \"| what is bounded | its value | key or — | `%s` |\" beside the rows of its "+
				"package, or a line to notLimits when nobody else can reach it", name, name)
		case have[name] != 0 && known:
			t.Errorf("%s has a row in docs/security.md and stands in notLimits", name)
		}
	}
	for name := range notLimits {
		if !seen[name] {
			t.Errorf("notLimits names %s, which is no constant", name)
		}
	}
}

// limitFolders are where limits are: what ships and serves others.
var limitFolders = []string{"identity", "hold", "registry", "repo", "storage", "sqldb", "internal/blobhttp", "internal/config",
	"internal/durable", "internal/httpx", "internal/oci", "internal/pace", "internal/sqlx", "internal/websession", "internal/webui"}

var maxName = regexp.MustCompile(`^[mM]ax[A-Z]`)

// maxConstants lists the constants called max…, with their folders.
func maxConstants(t *testing.T, s *sources) (names []string) {
	t.Helper()
	dirs := map[string]bool{"atcr": true}
	for _, file := range tracked(t, "*.go") {
		dir := filepath.ToSlash(filepath.Dir(file))
		if slices.ContainsFunc(limitFolders, func(f string) bool { return dir == f || strings.HasPrefix(dir, f+"/") }) {
			dirs[dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		p, err := s.load(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(p.consts)) {
			if maxName.MatchString(name) {
				names = append(names, dir+"."+name)
			}
		}
	}
	return names
}

// The check finds what it is there for.
func TestLimitsCheckBites(t *testing.T) {
	dir := t.TempDir()
	code := `package p

import "time"

const maxThings, life = 3 << 10, 2 * time.Minute

type Options struct{ MaxBodies int }

func (o *Options) defaults() {
	if o.MaxBodies == 0 {
		o.MaxBodies = 7
	}
}
`
	if err := os.MkdirAll(filepath.Join(dir, "p"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "p", "p.go"), []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	s, configs := newSources(dir), map[string]string{"server.things": "3072", "server.life": "2m"}
	for _, test := range []struct {
		l  limit
		ok bool
	}{
		{limit{def: "3 KiB", key: "—", where: "p.maxThings"}, true},
		{limit{def: "3 KiB", key: "server.things", where: "p.maxThings"}, true},
		{limit{def: "2 min", key: "server.life", where: "p.life"}, true},
		{limit{def: "7", key: "p.Options.MaxBodies", where: "p.MaxBodies"}, true},
		{limit{def: "3 000", key: "—", where: "p.maxThings"}, false},
		{limit{def: "3 pieces", key: "—", where: "p.maxThings"}, false},
		{limit{def: "3 KiB", key: "server.others", where: "p.maxThings"}, false},
		{limit{def: "3 KiB", key: "server.life", where: "p.maxThings"}, false},
		{limit{def: "7", key: "p.Options.MaxHeads", where: "p.MaxBodies"}, false},
		{limit{def: "8", key: "p.Options.MaxBodies", where: "p.MaxBodies"}, false},
		{limit{def: "1", key: "—", where: "p.maxOthers"}, false},
	} {
		if err := test.l.check(s, configs); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test.l, err)
		}
	}
	if _, err := limitRows("\n| limit | default | key or Go field | where |\n| --- | --- | --- | --- |\n| a | b | c |\n"); err == nil {
		t.Error("a row of three cells is taken")
	}
}
