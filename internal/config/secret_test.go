package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestMistakesShowNoSecret: whatever is mistyped at or beside the line of a secret, in either format, no error shows it, nor a part
// of it.
func TestMistakesShowNoSecret(t *testing.T) {
	const secret, part = "qqwertyy", "wert"
	mistakes := []string{`"`, `'`, ":", ": ", "{", "}", "[", "]", "|", ">", "|-", "*", "&", "!", "!!int ", "%", "@", "`", "\n", "\n  ",
		"\t", "#", " #", ",", ", ", "- ", "\n- ", "? ", "<<: ", "\n---\n", `\x`, "\x00", "\xff", "=", ".", `"""`, "'''", "\r", "é"}
	yaml := func(value string) string {
		return "server:\n  public_url: https://h.test\nregistration:\n  owner_did: did:web:o.test\n" +
			"SECTION:\n  NAME: " + value + "\nlog_level: info\n"
	}
	toml := func(value string) string {
		return "log_level = 'info'\n[SECTION]\nNAME = " + value + "\n" +
			"[server]\npublic_url = 'https://h.test'\n[registration]\nowner_did = 'did:web:o.test'\n"
	}
	texts := map[string][]string{
		"yaml": {yaml(secret), yaml(`"` + secret + `"`), yaml("'" + secret + "'"), yaml("|\n    " + secret),
			strings.Replace(yaml(secret), "SECTION:\n  NAME: "+secret, "SECTION: {NAME: "+secret+"}", 1)},
		"toml": {toml(`"` + secret + `"`), toml("'" + secret + "'"), toml(`"""` + "\n" + secret + `"""`),
			toml("2026-01-01" + secret), toml("1e999" + secret)},
	}
	tried := 0
	try := func(format, text string) {
		tried++
		c := DefaultHold()
		l := newLoader(reflect.ValueOf(c).Elem())
		l.file, l.text, l.prefix = "c."+format, []byte(text), HoldPrefix
		warnings, err := l.load(nil, c.check)
		if shown := fmt.Sprint(err, warnings); strings.Contains(shown, part) {
			t.Errorf("%q:\n%s", text, shown)
		}
	}
	for format, of := range texts {
		for _, text := range of {
			for _, key := range []string{"scanner.secret", "database.url"} {
				section, name, _ := strings.Cut(key, ".")
				text := strings.NewReplacer("SECTION", section, "NAME", name).Replace(text)
				from := strings.Index(text, section)
				at := strings.Index(text, part)
				try(format, text)
				for i := from; i <= min(len(text), at+20); i++ {
					if i > at && i < at+len(part) {
						continue
					}
					for k, m := range mistakes {
						if (i+k)%3 > 0 && !testing.Verbose() { // each at a third of the places; -v: everywhere
							continue
						}
						try(format, text[:i]+m+text[i:])
					}
					if i < len(text) && (i < at || i >= at+len(part)) {
						try(format, text[:i]+text[i+1:])
					}
					try(format, text[:i])
					try(format, text[:i]+text[from:])
				}
				line := text[strings.LastIndexByte(text[:at], '\n')+1:]
				line, _, _ = strings.Cut(line, "\n")
				try(format, strings.Replace(text, line, line+"\n"+line, 1))
				rest := text[from:]
				try(format, text[:from]+strings.Replace(rest, name, secret, 1)) // a value where the key should be
				try(format, text[:from]+strings.Replace(rest, name, "unknown", 1))
				try(format, text[:from]+strings.Replace(rest, name, name+"."+secret, 1))
			}
		}
	}
	if tried < 5_000 {
		t.Errorf("only %d mistakes were tried", tried)
	}
}

// TestUnknownKeysInSections: a key that is near a known one is named; in a section that holds a secret nothing else is.
func TestUnknownKeysInSections(t *testing.T) {
	for text, want := range map[string]string{
		"scanner: {secrt: hunter2}\n":                "unknown key scanner.secrt; did you mean scanner.secret?",
		"scanner: {hunter2: x}\n":                    "unknown key in scanner (not shown, it may be a secret); it takes secret",
		"scanner: {'secret:hunter2': }\n":            "unknown key in scanner (not shown, it may be a secret)",
		"relays: {nothing_near: x}\n":                "unknown key relays.nothing_near; it takes endpoints",
		"MHcCAQEEIHunter2: x\n":                      "unknown key in the file (not shown, it may be a secret)",
		"Server: {}\n":                               "unknown key Server; did you mean server?",
		"database: {public_url: x}\n":                "unknown key database.public_url; did you mean server.public_url?",
		strings.Repeat("hunter2", 100_000) + ": x\n": "unknown key in the file",
	} {
		_, _, err := LoadHold(file(t, "c.yaml", holdMinimum+text), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") ||
			strings.Contains(err.Error(), "IHunter") {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

// TestSecretsOfTheEnvironment: nothing that is wrong with a secret of the environment shows it.
func TestSecretsOfTheEnvironment(t *testing.T) {
	for _, f := range leaves(reflect.ValueOf(DefaultHold()).Elem()) {
		if !f.secret {
			continue
		}
		if f.path == "database.url" {
			_, _, err := LoadHold(file(t, "c.yaml", holdMinimum), []string{"HOLD_DATABASE_URL=postgres://u:12/hunter2@h/d"})
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a / in the password: %v", err)
			}
		}
		for _, value := range []string{"hunter2", "postgres://u:hunter2@h:notaport/d",
			"postgres://u@h/d?password=hunter2&sslmode=hunter2", "\x00hunter2"} {
			env := []string{EnvName(HoldPrefix, f.path) + "=" + value, "HOLD_LOG_LEVEL=loud", EnvName(HoldPrefix, f.path) + "X=" + value}
			_, warnings, err := LoadHold(file(t, "c.yaml", holdMinimum), env)
			if err == nil || strings.Contains(fmt.Sprint(err, warnings), "hunter2") {
				t.Errorf("%s: %v %v", f.path, err, warnings)
			}
		}
	}
}

// TestKeysInTheWrongPlace: a private key where a public one belongs is not shown.
func TestKeysInTheWrongPlace(t *testing.T) {
	for key, value := range map[string]string{
		"identity.recovery_did_key": "z42tvVLYhunter2", "backup.to": "s3://AKIA:hun?ter2@bucket/x",
		"server.handle_resolver_url": "https://u:hun?ter2@pds.test",
	} {
		_, _, err := LoadHold(file(t, "c.yaml", holdMinimum), []string{EnvName(HoldPrefix, key) + "=" + value})
		if err == nil || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "hun") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
