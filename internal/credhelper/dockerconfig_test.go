package credhelper

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestConfigure(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"no file":    {"-", "{\n\t\"credHelpers\": {\n\t\t\"r.test:5000\": \"atcr\"\n\t}\n}\n"},
		"empty file": {"", "{\n\t\"credHelpers\": {\n\t\t\"r.test:5000\": \"atcr\"\n\t}\n}\n"},
		"empty":      {"{}", "{\n\t\"credHelpers\": {\n\t\t\"r.test:5000\": \"atcr\"\n\t}\n}"},
		"docker's": {"{\n\t\"auths\": {\n\t\t\"x.test\": {}\n\t},\n\t\"HttpHeaders\": {\"b\": \"1\", \"a\": \"<2>\"}\n}",
			"{\n\t\"auths\": {\n\t\t\"x.test\": {}\n\t},\n\t\"HttpHeaders\": {\"b\": \"1\", \"a\": \"<2>\"},\n\t\"credHelpers\": {\n\t\t\"r.test:5000\": \"atcr\"\n\t}\n}"},
		"others there": {"{\n  \"credHelpers\": {\n    \"gcr.io\": \"gcloud\"\n  },\n  \"z\": 1e9, \"a\": [1, {\"}\": \"\\\"\"}]\n}\n",
			"{\n  \"credHelpers\": {\n    \"gcr.io\": \"gcloud\",\n    \"r.test:5000\": \"atcr\"\n  },\n  \"z\": 1e9, \"a\": [1, {\"}\": \"\\\"\"}]\n}\n"},
		"one line":       {`{"a":1,"credHelpers":{"gcr.io":"gcloud"}}`, `{"a":1,"credHelpers":{"gcr.io":"gcloud", "r.test:5000": "atcr"}}`},
		"one line, none": {`{"a":1}`, `{"a":1, "credHelpers": {"r.test:5000": "atcr"}}`},
		"Windows":        {"{\r\n  \"a\": 1\r\n}\r\n", "{\r\n  \"a\": 1,\r\n  \"credHelpers\": {\r\n    \"r.test:5000\": \"atcr\"\r\n  }\r\n}\r\n"},
		"there":          {`{"credHelpers":{"r.test:5000":"atcr"}}`, `{"credHelpers":{"r.test:5000":"atcr"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), ".docker", "config.json")
			if c.before != "-" {
				if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(c.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			changed, err := Configure(file, "r.test:5000", false, false)
			if err != nil || changed != (c.before != c.after) {
				t.Fatalf("changed %t, %v", changed, err)
			}
			if raw, _ := os.ReadFile(file); string(raw) != c.after {
				t.Errorf("after: %q, want %q", raw, c.after)
			}
			want := os.FileMode(0o644)
			if c.before == "-" {
				want = 0o600
			}
			if st, _ := os.Stat(file); runtime.GOOS != "windows" && st.Mode().Perm() != want {
				t.Errorf("mode %o, want %o", st.Mode().Perm(), want)
			}
			if hosts, err := Configured(file); err != nil || len(hosts) != 1 || hosts[0] != "r.test:5000" {
				t.Errorf("configured %q, %v", hosts, err)
			}
			if changed, err := Configure(file, "r.test:5000", false, false); changed || err != nil {
				t.Errorf("again: %t, %v", changed, err)
			}
			if changed, err := Configure(file, "r.test:5000", true, false); !changed || err != nil {
				t.Errorf("undo: %t, %v", changed, err)
			}
			before := c.before
			if before == c.after {
				before = "{}"
			}
			raw, _ := os.ReadFile(file)
			if before != "-" && before != "" && string(raw) != before || strings.Contains(string(raw), "credHelpers\":{}") {
				t.Errorf("after undo: %q, want %q", raw, before)
			}
			if changed, err := Configure(file, "r.test:5000", true, false); changed || err != nil {
				t.Errorf("undo again: %t, %v", changed, err)
			}
		})
	}
	if changed, err := Configure(filepath.Join(t.TempDir(), "none", "config.json"), "r.test", true, false); changed || err != nil {
		t.Errorf("undo without a file: %t, %v", changed, err)
	}
}

func TestConfigureRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"no JSON": `{"a": 1,}`, "a list": `[]`, "a text": `"credHelpers"`, "twice": `{"credHelpers":{},"credHelpers":{}}`,
		"helpers no object": `{"credHelpers":[]}`, "helper no text": `{"credHelpers":{"r.test":1}}`,
		"host twice": `{"credHelpers":{"r.test":"a","r.test":"b"}}`, "two documents": `{} {}`, "null": `{"credHelpers":null}`,
	} {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, undo := range []bool{false, true} {
			if _, err := Configure(file, "r.test", undo, true); err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, undo %t: %v", name, undo, err)
			}
		}
		if raw, _ := os.ReadFile(file); string(raw) != doc {
			t.Errorf("%s: the file is now %q", name, raw)
		}
	}
	// Another helper's entry is left to its owner.
	file := filepath.Join(t.TempDir(), "config.json")
	other := `{"credHelpers": {"r.test": "pass", "s.test": "atcr"}}`
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ undo, force bool }{{false, false}, {true, false}, {true, true}} {
		if _, err := Configure(file, "r.test", c.undo, c.force); !errors.Is(err, ErrOtherHelper) || !strings.Contains(err.Error(), "pass") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if changed, err := Configure(file, "r.test", false, true); err != nil || !changed {
		t.Errorf("by force: %t, %v", changed, err)
	}
	if raw, _ := os.ReadFile(file); string(raw) != strings.Replace(other, "pass", "atcr", 1) {
		t.Errorf("by force: %s", raw)
	}
}

// The file may be a symbolic link, as those who keep their settings in a repository have it.
func TestConfigureLink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.json"), filepath.Join(dir, "config.json")
	if err := os.WriteFile(real, []byte("{}"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Skip(err)
	}
	if _, err := Configure(link, "r.test", false, false); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(link)
	if err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", st, err)
	}
	if st, _ := os.Stat(real); st.Mode().Perm() != 0o640 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	if hosts, err := Configured(real); err != nil || len(hosts) != 1 {
		t.Errorf("%q, %v", hosts, err)
	}
}

func TestConfigFiles(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	docker := filepath.Join(home, ".docker", "config.json")
	for _, c := range []struct{ env, want []string }{
		{nil, []string{docker}},
		{[]string{"DOCKER_CONFIG=/d"}, []string{filepath.FromSlash("/d/config.json")}},
		{[]string{"DOCKER_CONFIG=/d", "REGISTRY_AUTH_FILE=/a.json"}, []string{filepath.FromSlash("/d/config.json"), "/a.json"}},
	} {
		if got, err := ConfigFiles(c.env); err != nil || runtime.GOOS != "windows" && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %q, %v, want %q", c.env, got, err, c.want)
		}
	}
	run := t.TempDir()
	podmans := filepath.Join(run, "containers", "auth.json")
	for _, file := range []string{docker, podmans} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(docker, []byte(`{"auths":{"https://r.test":{},"s.test":{"auth":"YTpi"}}}`), 0o600)
	os.WriteFile(podmans, []byte(`{"auths":{"r.test":{"auth":"YTpi"}}}`), 0o600)
	env := []string{"XDG_RUNTIME_DIR=" + run, "DOCKER_CONFIG=" + filepath.Dir(docker)}
	if got := PasswordsIn(env, "r.test"); len(got) != 1 || got[0] != podmans {
		t.Errorf("passwords in %q", got)
	}
	if got := PasswordsIn(env, "s.test"); len(got) != 1 || got[0] != docker {
		t.Errorf("passwords in %q", got)
	}
}

// FuzzConfigure: what is set is set and nothing else is changed, and undo takes it back.
func FuzzConfigure(f *testing.F) {
	for _, doc := range []string{`{}`, `{"auths":{"a":{"auth":"x"}},"credHelpers":{"b":"c"}}`, "{\n\t\"a\": [1,2,{\"b\":null}]\n}\n", ` { "credHelpers" : { } } `,
		`{"credHelpers":{"r.test":"atcr","x":"y"},"z":"\"}"}`, "{\"a\":\"\\\\\",\n \"credHelpers\":{\n}}"} {
		f.Add(doc, "r.test")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, doc, host string) {
		file := filepath.Join(dir, "config.json")
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		name, _, err := splitServer(host)
		if err != nil {
			return
		}
		_, err = Configure(file, host, false, true)
		raw, _ := os.ReadFile(file)
		if err != nil {
			if string(raw) != doc {
				t.Errorf("%q was changed to %q by a failure: %v", doc, raw, err)
			}
			return
		}
		before, after := decoded(t, doc), decoded(t, string(raw))
		if helperOf(after, name) != "atcr" {
			t.Errorf("%q became %q", doc, raw)
		}
		dropHelper(before, name)
		dropHelper(after, name)
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%q became %q: %v is not %v", doc, raw, after, before)
		}
		if changed, err := Configure(file, host, true, false); err != nil || !changed {
			t.Errorf("undo of %q: %t, %v", raw, changed, err)
		}
		raw, _ = os.ReadFile(file)
		undone := decoded(t, string(raw))
		if helperOf(undone, name) != "" {
			t.Errorf("undo left %q", raw)
		}
		dropHelper(undone, name)
		if !reflect.DeepEqual(before, undone) {
			t.Errorf("%q, undone: %q", doc, raw)
		}
	})
}

func decoded(t *testing.T, doc string) map[string]any {
	out := map[string]any{}
	if strings.TrimSpace(doc) == "" {
		return out
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(doc)))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	return out
}

func helperOf(doc map[string]any, host string) any {
	helpers, _ := doc["credHelpers"].(map[string]any)
	if helpers[host] == nil {
		return ""
	}
	return helpers[host]
}

func dropHelper(doc map[string]any, host string) {
	if helpers, ok := doc["credHelpers"].(map[string]any); ok {
		delete(helpers, host)
		if len(helpers) == 0 {
			delete(doc, "credHelpers")
		}
	}
}
