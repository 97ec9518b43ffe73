package credhelper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zalando/go-keyring"
)

// fixture is a helper on a folder of its own.
func fixture(t *testing.T, change func(*Config)) (*Helper, *[]string) {
	t.Helper()
	var notes []string
	c := Config{Dir: filepath.Join(t.TempDir(), "atcr"), Note: func(text string) { notes = append(notes, text) }}
	if change != nil {
		change(&c)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h, &notes
}

// as is another process's helper on the same folder.
func as(t *testing.T, h *Helper, change func(*Config)) *Helper {
	t.Helper()
	c := h.Config
	change(&c)
	other, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

func store(t *testing.T, h *Helper, host, user, secret string) {
	t.Helper()
	if err := h.Store(Credential{host, user, secret}); err != nil {
		t.Fatal(err)
	}
}

// gets asks for a server and wants "user secret", or "" for not found.
func gets(t *testing.T, h *Helper, server, want string) {
	t.Helper()
	c, err := h.Get(server)
	got := ""
	if err == nil {
		got = c.Username + " " + c.Secret
		if c.ServerURL != server {
			t.Errorf("get %s returns the server %s", server, c.ServerURL)
		}
	} else if !errors.Is(err, ErrNotFound) {
		t.Errorf("get %s: %v", server, err)
		return
	}
	if got != want {
		t.Errorf("get %s returns %q, want %q", server, got, want)
	}
}

func TestAccounts(t *testing.T) {
	h, _ := fixture(t, nil)
	gets(t, h, "r.test", "")
	if _, err := os.Stat(h.Dir); !os.IsNotExist(err) {
		t.Errorf("asking has made a folder: %v", err)
	}
	store(t, h, "r.test", "Alice.test", "one")
	store(t, h, "127.0.0.1:5000", "carol.test", "three")
	if _, err := h.KeepDevice("r.test", &Device{Name: "laptop", Secret: "two", DID: "did:plc:bob", Handle: "bob.test"}); err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"r.test", "https://r.test", "https://r.test/v2/", "R.test", "r.test/alice.test/app"} {
		gets(t, h, server, "bob.test two")
	}
	gets(t, h, "127.0.0.1:5000", "carol.test three")
	for _, server := range []string{"127.0.0.1", "r.test:443", "docker.io", "https://index.docker.io/v1/", "", "::", "a b", strings.Repeat("x", 5000)} {
		gets(t, h, server, "")
	}
	for _, name := range []string{"alice.test", "@ALICE.test"} {
		gets(t, as(t, h, func(c *Config) { c.Account = name }), "r.test", "alice.test one")
	}
	gets(t, as(t, h, func(c *Config) { c.Account = "did:plc:bob" }), "r.test", "bob.test two")
	carol := as(t, h, func(c *Config) { c.Account = "carol.test" })
	gets(t, carol, "r.test", "") // nobody else instead
	gets(t, carol, "127.0.0.1:5000", "carol.test three")

	if used, err := h.Switch("r.test", ""); err != nil || used != "alice.test" {
		t.Errorf("switch to the other one: %q, %v", used, err)
	}
	gets(t, h, "r.test", "alice.test one")
	if used, err := h.Switch("r.test", "did:plc:bob"); err != nil || used != "bob.test" {
		t.Errorf("switch by DID: %q, %v", used, err)
	}
	list, err := h.List()
	if err != nil || fmt.Sprint(list) != "map[127.0.0.1:5000:carol.test r.test:bob.test]" {
		t.Errorf("list %v, %v", list, err)
	}
	// After a sign-out nobody is somebody else without having said so.
	if err := h.Erase("https://r.test"); err != nil {
		t.Fatal(err)
	}
	gets(t, h, "r.test", "")
	if err := h.Erase("r.test"); err != nil {
		t.Error(err)
	}
	if list, _ := h.List(); len(list) != 1 {
		t.Errorf("list %v", list)
	}
	if used, err := h.Switch("r.test", ""); err != nil || used != "alice.test" {
		t.Errorf("switch after a sign-out: %q, %v", used, err)
	}
	if err := h.Forget("r.test", "alice.test"); err != nil {
		t.Fatal(err)
	}
	if all, err := h.Accounts(); err != nil || len(all) != 1 || all[0].Host != "127.0.0.1:5000" {
		t.Errorf("accounts %+v, %v", all, err)
	}
	for _, name := range []string{"", "alice.test"} {
		if _, err := h.Switch("r.test", name); err == nil || !strings.Contains(err.Error(), "login r.test") {
			t.Errorf("switch to %q where nobody is: %v", name, err)
		}
	}
	if _, err := h.Switch("127.0.0.1:5000", "dave.test"); err == nil || !strings.Contains(err.Error(), "carol.test") {
		t.Errorf("switch to nobody: %v", err)
	}
	if _, err := h.Switch("127.0.0.1:5000", ""); err == nil || !strings.Contains(err.Error(), "only account") {
		t.Errorf("switch of one: %v", err)
	}
}

func TestToken(t *testing.T) {
	h, _ := fixture(t, nil)
	store(t, h, "r.test", "alice.test", "one")
	ci := as(t, h, func(c *Config) { c.Token = "atcr_robot_x" })
	gets(t, ci, "r.test", "token atcr_robot_x")
	gets(t, ci, "other.test", "token atcr_robot_x")
	for _, hub := range []string{"https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"} {
		gets(t, ci, hub, "") // who has this helper for every host
	}
	ci = as(t, h, func(c *Config) { c.Token, c.Host = "atcr_robot_x", "https://ci.test/" })
	gets(t, ci, "ci.test", "token atcr_robot_x")
	gets(t, ci, "r.test", "alice.test one")
	gets(t, ci, "other.test", "")
	if list, err := ci.List(); err != nil || list["ci.test"] != "token" || list["r.test"] != "alice.test" {
		t.Errorf("list %v, %v", list, err)
	}
	// Who has it asked for every host has named none.
	for hosts, want := range map[string]string{"": "token atcr_robot_x", "other.test": "token atcr_robot_x", "*": "",
		"* other.test": "token atcr_robot_x", "* r.test": ""} {
		ci = as(t, h, func(c *Config) {
			c.Token = "atcr_robot_x"
			c.Hosts = func() ([]string, bool) { return strings.Fields(hosts), strings.HasPrefix(hosts, "*") }
		})
		gets(t, ci, "other.test", want)
	}
	gets(t, as(t, h, func(c *Config) { c.Token, c.Account = "app-pass-word", "bob.test" }), "r.test", "bob.test app-pass-word")
	// No home, no file: a token needs neither.
	nowhere := as(t, h, func(c *Config) { c.Dir, c.Token = "", "atcr_robot_x" })
	gets(t, nowhere, "r.test", "token atcr_robot_x")
	nowhere.Token = ""
	gets(t, nowhere, "r.test", "")
	if err := nowhere.Store(Credential{"r.test", "a", "b"}); err == nil || !strings.Contains(err.Error(), "set HOME") {
		t.Errorf("store without a home: %v", err)
	}
	for _, c := range []Config{{Token: "hunter2"}, {Token: "atcr_robot_\nx"}, {Token: strings.Repeat("x", 1<<20), Account: "a.test"},
		{Host: "a b"}, {Account: "\x1b[2J"}} {
		if _, err := New(c); err == nil || c.Token != "" && strings.Contains(err.Error(), c.Token) || !strings.HasPrefix(err.Error(), "ATCR_") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestRules(t *testing.T) {
	var args []string
	h, notes := fixture(t, func(c *Config) { c.Command = func() []string { return args } })
	for _, user := range []string{"alice.test", "acme.test", "bob.test"} {
		store(t, h, "r.test:5000", user, "of-"+user)
	}
	for pattern, user := range map[string]string{"acme.test/*": "acme.test", "*/shared": "alice.test"} {
		if _, err := h.SetRule("r.test:5000", pattern, user); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]string{
		"docker push r.test:5000/acme.test/app:v1":                                                "acme.test",
		"docker push r.test:5000/Acme.test/app@sha256:00":                                         "acme.test",
		"docker push r.test:5000/bob.test/shared":                                                 "alice.test",
		"docker push r.test:5000/bob.test/app":                                                    "bob.test", // in use
		"docker push other.test:5000/acme.test/app":                                               "bob.test",
		"docker push not-r.test:5000/acme.test/app":                                               "bob.test",
		"skopeo copy docker://r.test:5000/acme.test/a docker://r.test:5000/x.test/shared":         "alice.test",
		"skopeo copy docker://r.test:5000/x.test/shared docker://r.test:5000/acme.test/a":         "acme.test",
		"docker buildx build --push --output=type=image,name=r.test:5000/acme.test/a,push=true .": "acme.test",
		"docker buildx build -tr.test:5000/acme.test/a:1 .":                                       "acme.test",
		"docker login r.test:5000":                                                                "bob.test",
		"docker login r.test:5000/":                                                               "bob.test",
		"":                                                                                        "bob.test",
	} {
		args = strings.Fields(command)
		gets(t, h, "r.test:5000", want+" of-"+want)
	}
	args = nil
	gets(t, h, "r.test:5000/acme.test/app", "acme.test of-acme.test") // crane names the repository
	gets(t, as(t, h, func(c *Config) { c.Account = "bob.test" }), "r.test:5000/acme.test/app", "bob.test of-bob.test")

	// The newer rule is asked first.
	if _, err := h.SetRule("r.test:5000", "acme.test/app", "alice.test"); err != nil {
		t.Fatal(err)
	}
	gets(t, h, "r.test:5000/acme.test/app", "alice.test of-alice.test")
	if _, err := h.SetRule("r.test:5000", "acme.test/app", ""); err != nil {
		t.Fatal(err)
	}
	gets(t, h, "r.test:5000/acme.test/app", "acme.test of-acme.test")
	// A rule for who has signed out means nobody, not somebody.
	if err := h.Forget("r.test:5000", "acme.test"); err != nil {
		t.Fatal(err)
	}
	gets(t, h, "r.test:5000/acme.test/app", "")
	if len(*notes) == 0 || !strings.Contains((*notes)[len(*notes)-1], "acme.test/*") {
		t.Errorf("notes %q", *notes)
	}
	for _, pattern := range []string{"", "/", "a b", "a\x1b", strings.Repeat("x", 2000)} {
		if _, err := h.SetRule("r.test:5000", pattern, "bob.test"); err == nil {
			t.Errorf("the pattern %q is taken", pattern)
		}
	}
	if _, err := h.SetRule("r.test:5000", "none/*", ""); err == nil {
		t.Error("a rule that isn't there went")
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/bc", false}, {"a/*", "a/b/c", true}, {"a/*", "a/", true}, {"a/*", "ab/c", false}, {"*", "a/b", true},
		{"*/b", "a/b", true}, {"a*b*c", "a-b-c", true}, {"a*b*c", "a-c-b", false}, {"a*a", "a", false}, {"a**b", "ab", true}, {"*b*", "abc", true},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("matches(%q, %q) is %t", c.pattern, c.name, got)
		}
	}
}

func TestFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes")
	}
	h, notes := fixture(t, nil)
	store(t, h, "r.test", "alice.test", "s3cret-<&>")
	store(t, h, "r.test", "bob.test", "other")
	if len(*notes) != 1 || !strings.Contains((*notes)[0], h.file) || !strings.Contains((*notes)[0], "no keyring") {
		t.Errorf("where secrets lie is said %q, want once", *notes)
	}
	for path, want := range map[string]os.FileMode{h.file: 0o600, h.Dir: 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, st.Mode(), err, want)
		}
	}
	raw, err := os.ReadFile(h.file)
	if err != nil || !bytes.Contains(raw, []byte("s3cret-<&>")) {
		t.Fatalf("%s, %v", raw, err)
	}
	refuses := func(what, text string) {
		t.Helper()
		_, err := h.Get("r.test")
		storing := h.Store(Credential{"r.test", "x.test", "y"})
		for _, err := range []error{err, storing} {
			if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), h.file) ||
				strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	os.Chmod(h.file, 0o640)
	refuses("others may read it", "chmod 600")
	os.Chmod(h.file, 0o600)
	for what, text := range map[string]string{`{"hosts": {"r.test": "s3cret"}}`: "mend it", `{"ver`: "mend it", `{"version": 2}`: "use a newer one",
		strings.Repeat(" ", maxState+1): "more than"} {
		if err := os.WriteFile(h.file, []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(fmt.Sprintf("%.10q", what), text)
	}
	if err := os.WriteFile(h.file, []byte(`{"version":1,"hosts":{"r.test":null,"s.test":{"active":"x","accounts":{"x":null}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	gets(t, h, "r.test", "")
	gets(t, h, "s.test", "")
	// The file may be a symbolic link.
	real := filepath.Join(t.TempDir(), "real.json")
	if err := os.WriteFile(real, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(h.file)
	if err := os.Symlink(real, h.file); err != nil {
		t.Fatal(err)
	}
	store(t, h, "r.test", "dave.test", "four")
	if st, err := os.Lstat(h.file); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", st, err)
	}
	gets(t, as(t, h, func(c *Config) { c.Account = "bob.test" }), "r.test", "bob.test other")
}

// Many processes store at once, and one reads: nothing is lost, and nothing half is read.
func TestStoreAtOnce(t *testing.T) {
	h, _ := fixture(t, nil)
	store(t, h, "r.test", "first.test", "first")
	var wg sync.WaitGroup
	for i := range 20 {
		other := as(t, h, func(c *Config) { c.Note = nil })
		wg.Go(func() {
			if err := other.Store(Credential{"r.test", fmt.Sprintf("u%d.test", i), "x"}); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := other.Get("r.test"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := h.Accounts()
	if err != nil || len(all) != 1 || len(all[0].Accounts) != 21 {
		t.Errorf("%d accounts, %v", len(all[0].Accounts), err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.Dir, ".tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestStoreRefuses(t *testing.T) {
	h, _ := fixture(t, nil)
	for _, c := range []Credential{{"", "a.test", "x"}, {"r.test", "", "x"}, {"r.test", "a.test", ""}, {"r test", "a.test", "x"},
		{"r.test", "a\x00b", "x"}, {"r.test", strings.Repeat("a", 1000), "x"}, {"r.test", "a.test", "sec\nret"},
		{"r.test", "a.test", strings.Repeat("s", maxSecret+1)}, {"r.test:port", "a.test", "x"}} {
		if err := h.Store(c); err == nil || c.Secret != "" && c.Secret != "x" && strings.Contains(err.Error(), c.Secret) {
			t.Errorf("%.30q: %v", c, err)
		}
	}
}

// docker stores a token that it was given under one name, whoever it is for; its command line says who.
func TestIdentityTokens(t *testing.T) {
	var args []string
	h, _ := fixture(t, func(c *Config) { c.Command = func() []string { return args } })
	for command, secret := range map[string]string{"docker login -u Alice.test r.test": "of alice", "docker login r.test --username=bob.test": "of bob",
		"docker --debug login --username carol.test": "of carol", "docker login r.test": "of nobody", "docker login -u": "of nobody"} {
		args = strings.Fields(command)
		store(t, h, "r.test", "<token>", secret)
		gets(t, h, "r.test", "<token> "+secret)
	}
	args = nil
	for name, secret := range map[string]string{"alice.test": "of alice", "bob.test": "of bob", "carol.test": "of carol", "<token>": "of nobody"} {
		if _, err := h.Switch("r.test", name); err != nil {
			t.Fatal(err)
		}
		gets(t, h, "r.test", "<token> "+secret)
		if list, err := h.List(); err != nil || list["r.test"] != "<token>" {
			t.Errorf("list %v, %v", list, err)
		}
	}
	if err := h.Erase("r.test"); err != nil {
		t.Error(err)
	}
	gets(t, h, "r.test", "")
}

// fakeKeyring does what real ones do on a bad day.
type fakeKeyring struct {
	mu   sync.Mutex
	kept map[string]string
	fail error
	hang chan struct{}
	lies bool
	boom bool
}

func (k *fakeKeyring) do(f func() error) error {
	if k.hang != nil {
		<-k.hang
	}
	if k.boom {
		panic("interface conversion")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	return f()
}

func (k *fakeKeyring) Set(service, user, secret string) error {
	return k.do(func() error {
		if !k.lies {
			k.kept[service+"|"+user] = secret
		}
		return nil
	})
}

func (k *fakeKeyring) Get(service, user string) (secret string, err error) {
	err = k.do(func() error {
		var ok bool
		if secret, ok = k.kept[service+"|"+user]; !ok && !k.lies {
			return keyring.ErrNotFound
		}
		return nil
	})
	return secret, err
}

func (k *fakeKeyring) Delete(service, user string) error {
	return k.do(func() error {
		if _, ok := k.kept[service+"|"+user]; !ok {
			return keyring.ErrNotFound
		}
		delete(k.kept, service+"|"+user)
		return nil
	})
}

func TestKeyring(t *testing.T) {
	k := &fakeKeyring{kept: map[string]string{}}
	h, notes := fixture(t, func(c *Config) { c.Keyring, c.KeyringLimit = k, time.Minute })
	store(t, h, "r.test", "alice.test", "s3cret")
	gets(t, h, "r.test", "alice.test s3cret")
	raw, err := os.ReadFile(h.file)
	if err != nil || bytes.Contains(raw, []byte("s3cret")) || k.kept["docker-credential-atcr r.test|alice.test"] != "s3cret" || len(*notes) > 0 {
		t.Errorf("file %s, %v; keyring %v; notes %q", raw, err, k.kept, *notes)
	}
	says := func(h *Helper, text string) {
		t.Helper()
		if _, err := h.Get("r.test"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), text) {
			t.Errorf("error is %v, want %q", err, text)
		}
	}
	k.fail = errors.New("is locked\x1b[2J")
	says(h, "can't be read (is locked [2J): unlock it")
	says(as(t, h, func(c *Config) { c.Keyring = nil }), "this session has none")
	// What can't be deleted from there is forgotten here, and said.
	if err := h.Erase("r.test"); err != nil || len(*notes) != 1 || !strings.Contains((*notes)[0], "still in the keyring") {
		t.Errorf("%v, notes %q", err, *notes)
	}
	gets(t, h, "r.test", "")

	*notes = nil
	store(t, h, "r.test", "alice.test", "two") // into the file, since it fails
	gets(t, h, "r.test", "alice.test two")
	if len(*notes) != 1 || !strings.Contains((*notes)[0], "is locked") {
		t.Errorf("notes %q", *notes)
	}
	k.fail = nil
	gets(t, h, "r.test", "alice.test two")
	store(t, h, "r.test", "alice.test", "three") // and back
	raw, _ = os.ReadFile(h.file)
	if bytes.Contains(raw, []byte("two")) || bytes.Contains(raw, []byte("three")) {
		t.Errorf("the file holds what the keyring has: %s", raw)
	}
	gets(t, h, "r.test", "alice.test three")
	delete(k.kept, "docker-credential-atcr r.test|alice.test")
	says(h, "no longer in the keyring")
	if err := h.Erase("r.test"); err != nil {
		t.Error(err)
	}
}

// A keyring that hangs, lies or makes its library panic is none.
func TestBadKeyrings(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	for name, k := range map[string]*fakeKeyring{"hangs": {hang: hang}, "lies": {lies: true}, "panics": {boom: true}} {
		t.Run(name, func(t *testing.T) {
			k.kept = map[string]string{}
			h, notes := fixture(t, func(c *Config) {
				c.Keyring, c.KeyringLimit = k, time.Minute
				if k.hang != nil {
					c.KeyringLimit = time.Millisecond
				}
			})
			store(t, h, "r.test", "alice.test", "s3cret")
			gets(t, h, "r.test", "alice.test s3cret")
			if raw, _ := os.ReadFile(h.file); !bytes.Contains(raw, []byte("s3cret")) || len(*notes) != 1 {
				t.Errorf("file %s, notes %q", raw, *notes)
			}
		})
	}
}

func TestServe(t *testing.T) {
	h, _ := fixture(t, nil)
	for _, c := range []struct{ verb, in, out, errs string }{
		{"get", "r.test", "credentials not found in native keychain\n", ""},
		{"get", "https://r.test/\n", "credentials not found in native keychain\n", ""},
		{"get", " ", "no credentials server URL\n", "docker-credential-atcr: no credentials server URL\n"},
		{"store", `{"ServerURL":"r.test","Username":"a.test","Secret":"s<3"}`, "", ""},
		{"get", "r.test", `{"ServerURL":"r.test","Username":"a.test","Secret":"s<3"}` + "\n", ""},
		{"list", "unused", `{"r.test":"a.test"}` + "\n", ""},
		{"erase", "r.test\n", "", ""},
		{"list", "", "{}\n", ""},
		{"store", `{"ServerURL":"r.test","Secret":"s3cret"}`, "no credentials username\n", "docker-credential-atcr: no credentials username\n"},
		{"store", `{"ServerURL":"","Username":"a","Secret":"s3cret"}`, "no credentials server URL\n", "docker-credential-atcr: no credentials server URL\n"},
		{"store", `{"Secret":"s3cret"`, "standard input is no credential as JSON: syntax error after 18 bytes\n",
			"docker-credential-atcr: standard input is no credential as JSON: syntax error after 18 bytes\n"},
		{"store", `{"Secret":17}`, "standard input is no credential as JSON: Secret is a number, not a text\n",
			"docker-credential-atcr: standard input is no credential as JSON: Secret is a number, not a text\n"},
		{"get", strings.Repeat("x", maxInput+1), "standard input has more than 1048576 bytes\n", "docker-credential-atcr: standard input has more than 1048576 bytes\n"},
	} {
		var out, errs strings.Builder
		err := h.Serve(c.verb, strings.NewReader(c.in), &out, &errs)
		said := strings.HasPrefix(c.out, "{")
		if out.String() != c.out || errs.String() != c.errs && c.verb != "store" || (err == nil) != (c.out == "" || said) {
			t.Errorf("%s %.60q: out %q, errs %q, %v", c.verb, c.in, &out, &errs, err)
		}
	}
}

func FuzzServe(f *testing.F) {
	f.Add("get", "r.test")
	f.Add("store", `{"ServerURL":"r.test","Username":"a.test","Secret":"s"}`)
	f.Add("erase", "https://r.test/v2/")
	f.Fuzz(func(t *testing.T, verb, in string) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		h, err := New(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if h.Serve(verb, strings.NewReader(in), &out, &errs) == nil && verb == "store" {
			var c Credential
			json.Unmarshal([]byte(in), &c)
			back, err := h.Get(c.ServerURL)
			if err != nil || back.Secret != c.Secret {
				t.Errorf("stored %q, got %+v, %v", in, back, err)
			}
		}
	})
}

func TestOneHost(t *testing.T) {
	h, _ := fixture(t, nil)
	one := func(h *Helper, want string, named string, more ...string) {
		t.Helper()
		if got, err := h.OneHost(named, more...); got != want || (err == nil) != (want != "") {
			t.Errorf("host %q, %v, want %q", got, err, want)
		}
	}
	one(h, "", "")
	one(h, "r.test", "https://R.test/")
	one(h, "r.test", "", "r.test", "r.test")
	store(t, h, "r.test", "a.test", "x")
	one(h, "r.test", "")
	one(h, "r.test", "", "r.test")
	one(h, "", "", "s.test")
	one(as(t, h, func(c *Config) { c.Host = "ci.test" }), "ci.test", "", "s.test")
	one(h, "", "a b")
}

func TestRunningBus(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no buses there")
	}
	env := func(vars ...string) func(string) string { return environment(vars) }
	dir := t.TempDir()
	if k := SystemKeyring(env("XDG_RUNTIME_DIR="+dir, "DBUS_SESSION_BUS_ADDRESS=autolaunch:")); k != nil && runtime.GOOS == "linux" {
		t.Errorf("a bus would be started: %v", k)
	}
	if err := os.WriteFile(filepath.Join(dir, "bus"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := runningBus("", dir); got != "" {
		t.Errorf("a file is no bus: %s", got)
	}
}

func TestCallersCommand(t *testing.T) {
	if runtime.GOOS == "linux" && len(callersCommand()) == 0 {
		t.Error("the program that started this one is unknown")
	}
	raw := append([]byte{3, 0, 0, 0}, "/usr/bin/docker\x00\x00\x00\x00docker\x00push\x00r.test/a/b\x00PATH=/bin\x00"...)
	if got := procArgs(raw); fmt.Sprint(got) != "[docker push r.test/a/b]" {
		t.Errorf("arguments %q", got)
	}
	for _, bad := range []string{"", "\x01", "\xff\xff\xff\x7fdocker\x00a", "\x02\x00\x00\x00", "\x02\x00\x00\x00a\x00"} {
		procArgs([]byte(bad)) // must not panic
	}
}
