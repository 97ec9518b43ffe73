package config

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const holdMinimum = "server:\n  public_url: https://hold.example.com\nregistration:\n  owner_did: did:plc:ewvi7nxzyoun6zhxrhs64oiz\n"

func TestLocalDevelopmentFile(t *testing.T) {
	c, warnings, err := LoadAppView(file(t, "c.yaml", `
server:
  default_hold_did: "did:web:127.0.0.1:8080"
  test_mode: true
`), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.Server.DefaultHoldDID != "did:web:127.0.0.1:8080" || !c.Server.TestMode || c.Server.Addr != ":5000" ||
		c.DataDir() != "/var/lib/atcr" {
		t.Errorf("%+v", c.Server)
	}
}

func TestOrderOfSources(t *testing.T) {
	path := file(t, "c.yaml", "log_level: warn\nserver:\n  addr: :1\n  default_hold_did: did:web:file.test\n")
	c, _, err := LoadAppView(path, []string{"ATCR_SERVER_DEFAULT_HOLD_DID=did:web:env.test", "ATCR_LOG_LEVEL=",
		"ATCR_SERVER_TRUSTED_PROXIES=10.0.0.1/24", "ATCR_PDS_SERVE_STALE=1h", "ATCR_NETWORK_ALLOW=10.0.0.0/8, 192.168.0.0/16",
		"HOLD_SERVER_ADDR=:9"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.DefaultHoldDID != "did:web:env.test" || c.LogLevel != "warn" || c.Server.Addr != ":1" ||
		c.PDS.ServeStale != time.Hour || len(c.Network.Prefixes()) != 2 ||
		!slices.Equal(c.Server.Proxies(), []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}) {
		t.Errorf("%+v", c)
	}
}

func TestHoldValues(t *testing.T) {
	want := []CrewMember{{Member: "alice.test", Permissions: []string{"blob:read", "blob:write"}, Tier: "bosun"},
		{Member: "did:plc:x", Permissions: []string{"crew:admin"}}}
	yaml := holdMinimum + "  crew:\n    - member: alice.test\n      permissions: [blob:read, blob:write]\n      tier: bosun\n" +
		"    - {member: 'did:plc:x', permissions: [crew:admin]}\ndatabase:\n  did_method: web\n  path: /data\n  did: did:web:other.test\n"
	toml := `
[server]
public_url = "https://hold.example.com"
[registration]
owner_did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
[[registration.crew]]
member = "alice.test"
permissions = ["blob:read", "blob:write"]
tier = "bosun"
[[registration.crew]]
member = "did:plc:x"
permissions = ["crew:admin"]
[database]
path = "/data"
did = "did:web:other.test"
`
	env := []string{"HOLD_SERVER_PUBLIC_URL=https://hold.example.com", "HOLD_REGISTRATION_OWNER_DID=did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		"HOLD_DATABASE_PATH=/data", "HOLD_DATABASE_DID=did:web:other.test",
		"HOLD_REGISTRATION_CREW=[{member: alice.test, permissions: [blob:read, blob:write], tier: bosun}, " +
			"{member: did:plc:x, permissions: [crew:admin]}]"}
	for name, load := range map[string]func() (*Hold, []string, error){
		"yaml": func() (*Hold, []string, error) { return LoadHold(file(t, "c.yml", yaml), nil) },
		"toml": func() (*Hold, []string, error) { return LoadHold(file(t, "c.TOML", toml), nil) },
		"env":  func() (*Hold, []string, error) { return LoadHold("", env) },
	} {
		c, warnings, err := load()
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %v", name, err, warnings)
			continue
		}
		if !reflect.DeepEqual(c.Registration.Crew, want) {
			t.Errorf("%s: crew is %+v", name, c.Registration.Crew)
		}
		if c.Identity.DID != "did:web:other.test" || c.StoragePath() != "/data/blobs" {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestErrors(t *testing.T) {
	app := func(name, text string, env ...string) error {
		_, _, err := LoadAppView(file(t, name, text), env)
		return err
	}
	hold := func(name, text string, env ...string) error {
		_, _, err := LoadHold(file(t, name, text), env)
		return err
	}
	const did = "server: {default_hold_did: 'did:web:x.test'}\n"
	cases := []struct {
		name string
		err  error
		want []string
	}{
		{"unknown key", app("c.yaml", "server:\n  default_hold_did: did:web:x.test\n  bass_url: http://x\n"),
			[]string{"c.yaml:3: unknown key server.bass_url; did you mean server.base_url?"}},
		{"several", app("c.yaml", "log_leve: x\nservr: {}\n"),
			[]string{"c.yaml:1: unknown key log_leve; did you mean log_level?", "c.yaml:2: unknown key servr; did you mean server?"}},
		{"in another section", app("c.yaml", "default_hold_did: x\n"), []string{"did you mean server.default_hold_did?"}},
		{"nothing near", app("c.yaml", did+"pds: {xyz: 1}\n"),
			[]string{"c.yaml:2: unknown key pds.xyz; it takes copy_bytes, owner_bytes, owner_records, serve_stale, verify"}},
		{"TOML", app("c.toml", "log_level = \"info\"\n[server]\ndefault_hold_did = \"did:web:x.test\"\nadr = \":1\"\n"),
			[]string{"c.toml:4: unknown key server.adr; did you mean server.addr?"}},
		{"in a list", hold("c.yaml", holdMinimum+"  crew:\n    - member: a.test\n      permisions: []\n"),
			[]string{"c.yaml:7: unknown key registration.crew[0].permisions; did you mean registration.crew[0].permissions?"}},
		{"all at once", hold("c.yaml", "servr: {}\nlog_level: loud\nstorage: {driver: s3}\nbackup: {keep: many}\n",
			"HOLD_SERVER_TEST_MODE=perhaps"), []string{
			"c.yaml:1: unknown key servr", "c.yaml:2: log_level: \"loud\"", "c.yaml:3: storage.driver", "c.yaml:4: backup.keep",
			"HOLD_SERVER_TEST_MODE: server.test_mode", "server.public_url: is required", "registration.owner_did: is required"}},
		{"required", app("c.yaml", ""), []string{"server.default_hold_did: is required", "ATCR_SERVER_DEFAULT_HOLD_DID"}},
		{"hold required", hold("c.yaml", ""), []string{"server.public_url: is required", "registration.owner_did: is required"}},
		{"bool", app("c.yaml", "server:\n  default_hold_did: did:web:x.test\n  test_mode: maybe\n"),
			[]string{"c.yaml:3: server.test_mode: \"maybe\" must be true or false"}},
		{"duration", app("c.yaml", did+"pds:\n  serve_stale: 7 days\n"), []string{"c.yaml:3: pds.serve_stale", "duration"}},
		{"number", app("c.yaml", did+"log_shipper:\n  batch_size: many\n"), []string{"c.yaml:3: log_shipper.batch_size"}},
		{"section as text", app("c.yaml", "server: x\n"), []string{"c.yaml:1: server must be a section"}},
		{"list as text", app("c.yaml", did+"network:\n  allow: 10.0.0.0/8\n"), []string{"c.yaml:3: network.allow: must be a list"}},
		{"network", app("c.yaml", did+"network:\n  allow: [10.0.0.0]\n"), []string{"c.yaml:3: network.allow: \"10.0.0.0\" is no network"}},
		{"proxy", app("c.yaml", did, "ATCR_SERVER_TRUSTED_PROXIES=10.0.0.1"),
			[]string{"ATCR_SERVER_TRUSTED_PROXIES: server.trusted_proxies: \"10.0.0.1\" is no network"}},
		{"everybody is a proxy", hold("c.yaml", holdMinimum, "HOLD_SERVER_TRUSTED_PROXIES=10.0.0.0/8,::ffff:0.0.0.0/96"),
			[]string{"HOLD_SERVER_TRUSTED_PROXIES: server.trusted_proxies: \"::ffff:0.0.0.0/96\" is everybody"}},
		{"not YAML", app("c.yaml", "server: [\n"), []string{"c.yaml: "}},
		{"not TOML", app("c.toml", "server = [\n"), []string{"c.toml: line "}},
		{"twice", app("c.yaml", "log_level: info\nlog_level: warn\n"), []string{"c.yaml: ", "log_level"}},
		{"two documents", app("c.yaml", did+"---\n"+did), []string{"more than one"}},
		{"alias", app("c.yaml", "server: &a {}\nui: *a\n"), []string{"not allowed"}},
		{"both places", hold("c.yaml", holdMinimum+"identity: {did: 'did:web:a.test'}\ndatabase:\n  did: did:web:b.test\n"),
			[]string{"c.yaml:7: database.did is already set by identity.did", "c.yaml:5"}},
		{"env", app("c.yaml", did, "ATCR_SERVER_TEST_MODE=perhaps"), []string{"ATCR_SERVER_TEST_MODE: server.test_mode: \"perhaps\""}},
		{"https in test mode", app("c.yaml", did, "ATCR_SERVER_TEST_MODE=true", "ATCR_SERVER_BASE_URL=https://127.0.0.1:5000"),
			[]string{"server.test_mode: is refused while server.base_url is https"}},
		{"public in test mode", app("c.yaml", did, "ATCR_SERVER_TEST_MODE=true", "ATCR_SERVER_BASE_URL=http://registry.example.com"),
			[]string{"server.test_mode: is refused", "neither loopback"}},
		{"hold in test mode", hold("c.yaml", holdMinimum, "HOLD_SERVER_TEST_MODE=true"),
			[]string{"server.test_mode: is refused while server.public_url is https"}},
		{"http hold", hold("c.yaml", holdMinimum, "HOLD_SERVER_PUBLIC_URL=http://hold.example.com"),
			[]string{"HOLD_SERVER_PUBLIC_URL: server.public_url: must be https"}},
		{"method", hold("c.yaml", holdMinimum+"identity: {did_method: key}\n"), []string{`identity.did_method: "key" is not one of web, plc`}},
		{"recovery key", hold("c.yaml", holdMinimum+"identity: {recovery_did_key: zQ3sh}\n"),
			[]string{"identity.recovery_did_key: is no public key"}},
		{"s3", hold("c.yaml", holdMinimum+"storage: {driver: s3}\n"), []string{"storage.driver: \"s3\" is not one of file"}},
		{"rights", hold("c.yaml", holdMinimum+"  crew: [{member: a.test, permissions: ['blob:all']}]\n"),
			[]string{"registration.crew: \"blob:all\""}},
		{"no member", hold("c.yaml", holdMinimum+"  crew: [{tier: x}]\n"), []string{"has no member"}},
		{"appview handle", hold("c.yaml", holdMinimum, "HOLD_SERVER_APPVIEW_DID=registry.test"),
			[]string{"HOLD_SERVER_APPVIEW_DID: server.appview_did: \"registry.test\" is no DID"}},
		{"quota", hold("c.yaml", holdMinimum+"quota: {tiers: [{name: deckhand, quota: 5 apples}]}\n"),
			[]string{"c.yaml:5: quota.tiers: [0]: quota \"5 apples\" is no size"}},
		{"nameless tier", hold("c.yaml", holdMinimum+"quota: {tiers: [{name: deckhand}, {quota: 5gb}]}\n"), []string{"quota.tiers: [1]: name"}},
		{"owner handle", hold("c.yaml", "server: {public_url: 'https://h.test'}\nregistration: {owner_did: alice.test}\n"),
			[]string{"c.yaml:2: registration.owner_did: \"alice.test\" is no DID"}},
		{"URL with a path", app("c.yaml", did, "ATCR_SERVER_BASE_URL=https://x.test/registry"), []string{"server.base_url"}},
		{"address", app("c.yaml", did, "ATCR_SERVER_ADDR=5000"), []string{"server.addr: \"5000\" is no address"}},
		{"log level", app("c.yaml", did+"log_level: loud\n"), []string{"log_level: \"loud\""}},
		{"no file", func() error { _, _, err := LoadHold(filepath.Join(t.TempDir(), "none.yaml"), nil); return err }(), []string{"none.yaml"}},
		{"directory on loopback", app("c.yaml", did, "ATCR_SERVER_PLC_DIRECTORY_URL=http://localhost:1"),
			[]string{"ATCR_SERVER_PLC_DIRECTORY_URL: server.plc_directory_url: http://localhost:1 is no public address", "network.allow",
				"server.test_mode"}},
		{"directory at a private address", hold("c.yaml", holdMinimum+"identity: {plc_directory_url: 'https://10.0.0.1'}\n"),
			[]string{"c.yaml:5: identity.plc_directory_url: https://10.0.0.1 is no public address"}},
		{"resolver at a private address", hold("c.yaml", holdMinimum+"network: {allow: [10.1.0.0/16]}\n",
			"HOLD_SERVER_HANDLE_RESOLVER_URL=http://[fd00::1]"),
			[]string{"HOLD_SERVER_HANDLE_RESOLVER_URL: server.handle_resolver_url: http://[fd00::1] is no public address"}},
		{"resolver at a link-local address", app("c.yaml", did, "ATCR_SERVER_HANDLE_RESOLVER_URL=http://169.254.169.254"),
			[]string{"server.handle_resolver_url: http://169.254.169.254 is no public address"}},
		{"large", app("c.yaml", strings.Repeat("#\n", maxFile)), []string{"the limit is"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.err == nil {
				t.Fatal("it was taken")
			}
			for _, want := range c.want {
				if !strings.Contains(c.err.Error(), want) {
					t.Errorf("got %q, want %q in it", c.err, want)
				}
			}
		})
	}
}

func TestSecretsStayOut(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{"scanner:\n  secret: [" + secret + "]\n", "scanner:\n  secret: {a: " + secret + "}\n",
		"scanner:\n  secret: " + secret + "\nscaner: {}\n",
		"backup: {to: 's3://AKIA:" + secret + "@bucket/holds'}\n", "backup: {to: 's3:AKIA:" + secret +
			"@bucket'}\n", "backup: {to: 's3://bucket?secretKey=" + secret + "'}\n",
		"backup: {endpoint: 'https://AKIA:" + secret + "@s3.example.com'}\n", "backup: {endpoint: 'https://AKIA:/" + secret +
			"@s3.example.com'}\n",
		"backup: {recipient: AGE-SECRET-KEY-" + secret + "}\n",
		// A mistake beside the secret, or in it: the parser would print the lines around it.
		"scanner:\n  secret: " + secret + "\n  secret: " + secret + "\n", "log_level: info\nlog_level: info\nscanner:\n  secret: " +
			secret + "\n",
		"scanner:\n  secret: \"" + secret + "\n", "scanner:\n  secret: " + secret + ": x\n", "scanner:\n  secret: [" + secret +
			"\n", "scanner:\n  - " + secret + "\n",
		"scanner: " + secret + "\n", "scanner:\n  secret: *" + secret + "\n", "scanner:\n  secret: &" + secret + " " + secret +
			"\n", "\tx: " + secret + "\n",
		"scanner:\n  secret: |" + secret + "\n", "scanner:\n  secret: >-" + secret + "\nlog_level: info\n", "scanner: {secret: |" +
			secret + "}\n",
		"database: {url: 'mysql://hold:" + secret + "@db.test/hold'}\n", "database: {url: 'postgres://hold:" + secret + "%@db.test/hold'}\n"} {
		_, _, err := LoadHold(file(t, "c.yaml", holdMinimum+text), nil)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, url := range []string{"mysql://ui:" + secret + "@db.test/ui", "postgres://ui:" + secret + "%@db.test/ui"} {
		_, _, err := LoadAppView("", []string{"ATCR_SERVER_DEFAULT_HOLD_DID=did:web:hold.test", "ATCR_UI_DATABASE_URL=" + url})
		if err == nil || !strings.Contains(err.Error(), "ui.database_url") || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, text := range []string{"secret = " + secret + "\n", "secret = \"" + secret + "\n", "secret = \"" + secret +
		"\"\nsecret = \"" + secret + "\"\n", "secret = \"" + secret + "\" x\n",
		"secret = [\"" + secret + "\"]\n", "secret = \"" + secret + "\\q\"\n", "secret = 1e999 # " + secret + "\n"} {
		_, _, err := LoadHold(file(t, "c.toml", "[scanner]\n"+text), nil)
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "1e999") {
			t.Errorf("%q: %v", text, err)
		}
	}
	c := DefaultHold()
	c.Scanner.Secret = secret
	var out bytes.Buffer
	if err := Write(&out, YAML, c); err != nil || strings.Contains(out.String(), secret) {
		t.Error(err, out.String())
	}
}

func TestWarnings(t *testing.T) {
	path := file(t, "c.yaml", holdMinimum+"admin: {enabled: true}\ngc:\n  enabled: false\n"+
		"quota:\n  tiers: [{name: deckhand, quota: 5GB}]\n  defaults: {new_crew_tier: deckhand}\nscanner:\nstorage: {bucket: x}\n")
	_, warnings, err := LoadHold(path, []string{"HOLD_SERVR_ADDR=:1", "HOLD_MY_FAITH=x"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"environment variable HOLD_SERVR_ADDR is no setting; did you mean HOLD_SERVER_ADDR?",
		"these settings are read but do nothing yet, their feature is not built: storage.bucket (FILE:12), " +
			"admin.enabled (FILE:5), quota.defaults.new_crew_tier (FILE:10)",
		"quota.tiers: the tiers are named and given, but their quotas are not enforced yet: everybody's use is unlimited",
	}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "FILE", path)
	}
	if !reflect.DeepEqual(warnings, want) {
		t.Errorf("got %q", warnings)
	}
}

// What `config init` prints is read back as the defaults, in both formats and without a warning, and every key has a comment.
func TestWriteReadsBack(t *testing.T) {
	for _, format := range []Format{YAML, TOML} {
		var out bytes.Buffer
		if err := Write(&out, format, DefaultHold()); err != nil {
			t.Fatal(err)
		}
		env := []string{"HOLD_SERVER_PUBLIC_URL=https://h.test", "HOLD_REGISTRATION_OWNER_DID=did:web:x.test"}
		c, warnings, err := LoadHold(file(t, "c."+string(format), out.String()), env)
		if err != nil || len(warnings) > 0 {
			t.Fatal(format, err, warnings)
		}
		c.Server.PublicURL, c.Registration.OwnerDID = "", ""
		equal(t, c, DefaultHold())
		documented(t, out.String())
		out.Reset()
		if err := Write(&out, format, DefaultAppView()); err != nil {
			t.Fatal(err)
		}
		a, warnings, err := LoadAppView(file(t, "c."+string(format), out.String()), []string{"ATCR_SERVER_DEFAULT_HOLD_DID=did:web:x.test"})
		if err != nil || len(warnings) > 0 {
			t.Fatal(format, err, warnings)
		}
		a.Server.DefaultHoldDID = ""
		equal(t, a, DefaultAppView())
		documented(t, out.String())
	}
}

// Values that need quotes or are lists of objects survive both formats.
func TestWriteValues(t *testing.T) {
	want := DefaultHold()
	want.Server.PublicURL, want.Registration.OwnerDID = "https://hold.example.com", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	want.Registration.ProfileName = "a \"b\" \\ c: # d 'e' \t\u00e9\u2028\n[f]"
	want.Registration.Crew = []CrewMember{{Member: "did:web:a.test", Permissions: []string{"blob:read", "crew:admin"}, Tier: "x, y"},
		{Member: "b.test", Permissions: []string{}}}
	want.Quota.Tiers = []Tier{{Name: "yes", Quota: "5GB", Description: "for = {all}"}}
	want.Network.Allow = []string{"10.0.0.0/8", "fd00::/8"}
	want.Backup.Every = 90 * time.Second
	for _, format := range []Format{YAML, TOML} {
		var out bytes.Buffer
		if err := Write(&out, format, want); err != nil {
			t.Fatal(err)
		}
		want.Backup.To, want.Backup.Recipient = "/x", "none"
		got, _, err := LoadHold(file(t, "c."+string(format), out.String()), []string{"HOLD_BACKUP_TO=/x", "HOLD_BACKUP_RECIPIENT=none"})
		if err != nil {
			t.Fatal(format, err, out.String())
		}
		equal(t, got, want)
	}
}

func equal(t *testing.T, c, want any) {
	t.Helper()
	a, b := snapshot(reflect.ValueOf(c).Elem()), snapshot(reflect.ValueOf(want).Elem())
	if !equalSnapshots(a, b) {
		t.Errorf("got %+v\nwant %+v", a, b)
	}
}

func documented(t *testing.T, text string) {
	t.Helper()
	before := ""
	for line := range strings.Lines(text) {
		comment := strings.HasPrefix(strings.TrimSpace(line), "#")
		if strings.ContainsAny(line, ":=") && !comment && !strings.HasPrefix(strings.TrimSpace(before), "#") {
			t.Errorf("no comment above %q", line)
		}
		if len(line) > 141 {
			t.Errorf("too long: %q", line)
		}
		before = line
	}
}

// equalSnapshots takes a nil list and an empty one for the same.
func equalSnapshots(a, b map[string]any) bool {
	for path, v := range a {
		va, vb := reflect.ValueOf(v), reflect.ValueOf(b[path])
		if va.Kind() == reflect.Slice && va.Len() == 0 && vb.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(v, b[path]) {
			return false
		}
	}
	return len(a) == len(b)
}

// The example files at the root are what `config init` prints.
func TestExampleFiles(t *testing.T) {
	for name, c := range map[string]any{"config-appview.example.yaml": DefaultAppView(), "config-hold.example.yaml": DefaultHold()} {
		var want bytes.Buffer
		if err := Write(&want, YAML, c); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what config init prints: write it anew with that", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("server:\n  addr: :1\n  x: [1, {a: b}]\n"), false)
	f.Add([]byte("[server]\naddr = \":1\"\n[[registration.crew]]\nmember = 'x'\n"), true)
	f.Add([]byte("a: &x [*x]\n<<: *x\n"), false)
	f.Fuzz(func(t *testing.T, raw []byte, isTOML bool) {
		parse := parseYAML
		if isTOML {
			parse = parseTOML
		}
		if n, err := parse(raw); err == nil && n == nil {
			t.Error("neither node nor error")
		}
	})
}

// TestTextOfBackup: who writes a backup set can't name the database that is restored into, whom to trust, nor a key, by what Changed does
// not show.
func TestTextOfBackup(t *testing.T) {
	set := "config.yaml of the set 20260101T000000Z"
	c, err := LoadHoldText(set, []byte(holdMinimum+"backup: {to: /elsewhere, secret_key: '', trust: ['did:key:zQ3sh']}\n"),
		[]string{"HOLD_DATABASE_URL=postgres://db.test/hold"})
	if err != nil || c.Database.URL != "postgres://db.test/hold" || c.Backup.To != "" || len(c.Backup.Trust) > 0 {
		t.Fatal(c, err)
	}
	for key, text := range map[string]string{
		"database.url":          "database: {url: 'postgres://hunter2@evil.test/hold'}\n",
		"identity.rotation_key": "identity: {rotation_key: hunter2}\n",
		"scanner.secret":        "scanner: {secret: hunter2}\n",
	} {
		_, err := LoadHoldText(set, []byte(holdMinimum+text), nil)
		if err == nil || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
