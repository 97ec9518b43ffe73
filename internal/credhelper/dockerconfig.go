package credhelper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atcr-dev/atcr/internal/durable"
)

// helperName is what stands in a client's configuration for docker-credential-atcr.
const helperName = "atcr"

// ErrOtherHelper: a client's configuration names another helper for the host.
var ErrOtherHelper = errors.New("another credential helper is configured")

// maxConfig bounds a client's configuration, in bytes.
const maxConfig = 16 << 20

// ConfigFiles returns the files of an environment that tell clients which helper to ask: docker's, which podman, skopeo and crane read,
// too, and that of REGISTRY_AUTH_FILE, since podman and skopeo read nothing else where it is set.
func ConfigFiles(environ []string) ([]string, error) {
	env := environment(environ)
	dir := env("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find docker's configuration: %w; set HOME or DOCKER_CONFIG", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	files := []string{filepath.Join(dir, "config.json")}
	if f := env("REGISTRY_AUTH_FILE"); f != "" && f != files[0] {
		files = append(files, f)
	}
	return files, nil
}

// Configure has clients that read a configuration file ask docker-credential-atcr for a host, or with undo no longer: it sets or removes
// credHelpers.HOST and leaves every other byte as it is. It reports whether the file changed. One that is missing is made. Errors:
// [ErrOtherHelper] where another helper stands there, unless force says to replace it; undo never removes another one.
func Configure(file, host string, undo, force bool) (changed bool, err error) {
	host, _, err = splitServer(host)
	if err != nil {
		return false, err
	}
	mode := fs.FileMode(0o600)
	doc, err := readConfig(file)
	if errors.Is(err, fs.ErrNotExist) {
		if undo {
			return false, nil
		}
		if err := durable.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return false, err
		}
	} else if err != nil {
		return false, err
	} else if st, err := os.Stat(file); err == nil {
		mode = st.Mode().Perm()
	}
	c, err := parseConfig(doc)
	if err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	now, there := c.helpers[host]
	if there && now != helperName && !(force && !undo) {
		return false, fmt.Errorf("%s: %w for %s: credHelpers has %q", file, ErrOtherHelper, host, now)
	}
	var out []byte
	switch {
	case undo && there:
		out = c.without(host)
	case !undo && now != helperName:
		out = c.with(host)
	default:
		return false, nil
	}
	if after, err := parseConfig(out); err != nil || (after.helpers[host] == helperName) == undo {
		return false, fmt.Errorf("%s: its form is not understood: set credHelpers yourself: {%q: %q}", file, host, helperName)
	}
	return true, replace(file, out, mode)
}

// Configured lists the hosts that a configuration file has docker-credential-atcr asked for. Without a file there are none.
func Configured(file string) ([]string, error) {
	doc, err := readConfig(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var hosts []string
	for host, helper := range c.helpers {
		if helper == helperName {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts, nil
}

// askedHosts returns the hosts that the files of an environment have this program asked for, and whether one has it asked for every host.
func askedHosts(environ []string) (named []string, every bool) {
	files, _ := ConfigFiles(environ) // without a home there are none
	for _, file := range files {
		raw, err := readConfig(file)
		if err != nil {
			continue
		}
		var c struct {
			CredsStore  string
			CredHelpers map[string]string
		}
		if json.Unmarshal(raw, &c) != nil {
			continue
		}
		every = every || c.CredsStore == helperName
		for host, helper := range c.CredHelpers {
			if helper == helperName {
				named = append(named, strings.ToLower(host))
			}
		}
	}
	return named, every
}

// PasswordsIn returns those of the files of clients in which a password for a host lies in the clear.
func PasswordsIn(environ []string, host string) (files []string) {
	env := environment(environ)
	all, _ := ConfigFiles(environ)
	if dir := env("XDG_RUNTIME_DIR"); dir != "" {
		all = append(all, filepath.Join(dir, "containers", "auth.json"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		dir := env("XDG_CONFIG_HOME")
		if dir == "" {
			dir = filepath.Join(home, ".config")
		}
		all = append(all, filepath.Join(dir, "containers", "auth.json"))
	}
	for _, file := range all {
		raw, err := readConfig(file)
		if err != nil {
			continue
		}
		var c struct {
			Auths map[string]struct{ Auth, Password, IdentityToken string }
		}
		if json.Unmarshal(raw, &c) != nil {
			continue
		}
		for server, a := range c.Auths {
			if h, _, err := splitServer(server); err == nil && h == host && a.Auth+a.Password+a.IdentityToken != "" {
				files = append(files, file)
				break
			}
		}
	}
	return files
}

func readConfig(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(raw) > maxConfig {
		err = fmt.Errorf("%s has more than %d bytes", file, maxConfig)
	}
	return raw, err
}

// config is a JSON document of which one member is to be changed in place.
type config struct {
	doc     []byte
	helpers map[string]string

	root, object extent   // the document's object, and that of credHelpers; the latter has no end when there is none
	member       extent   // credHelpers with its name
	hosts        []hostAt // its members, in order
	members      []extent // of the document
}

// extent is a part of a document, from its first byte to behind its last.
type extent struct{ from, to int }

type hostAt struct {
	host  string
	whole extent // with its name
	value extent
}

func parseConfig(doc []byte) (*config, error) {
	if len(bytes.TrimSpace(doc)) == 0 {
		doc = []byte("{}\n")
	}
	c := &config{doc: doc, helpers: map[string]string{}}
	if !json.Valid(doc) {
		var any json.RawMessage
		return nil, fmt.Errorf("is no JSON: %w", withoutInput(json.Unmarshal(doc, &any)))
	}
	s := scanner{doc: doc}
	var err error
	c.root, err = s.object(func(key string, whole, value extent) error {
		c.members = append(c.members, whole)
		if key != "credHelpers" {
			return nil
		}
		if c.object.to != 0 {
			return errors.New("has credHelpers twice")
		}
		c.member = whole
		inner := scanner{doc: doc, at: value.from}
		c.object, err = inner.object(func(host string, whole, value extent) error {
			var name string
			if err := json.Unmarshal(doc[value.from:value.to], &name); err != nil {
				return fmt.Errorf("credHelpers.%s is no text", plain(host))
			}
			if _, twice := c.helpers[host]; twice {
				return fmt.Errorf("has credHelpers.%s twice", plain(host))
			}
			c.helpers[host] = name
			c.hosts = append(c.hosts, hostAt{host, whole, value})
			return nil
		})
		if err != nil {
			return fmt.Errorf("credHelpers: %w", err)
		}
		return nil
	})
	return c, err
}

// with returns the document with the helper for a host.
func (c *config) with(host string) []byte {
	value := []byte(quoted(helperName))
	for _, at := range c.hosts {
		if at.host == host {
			return c.splice(at.value, value)
		}
	}
	member := quoted(host) + ": " + string(value)
	if c.object.to != 0 {
		return c.insert(c.object, lastOf(c.hosts), member, c.indentIn(c.object, 2))
	}
	indent := c.indentIn(c.root, 1)
	inner := indent
	if indent != "" {
		inner = indent + c.unit()
	}
	body := `"credHelpers": {` + inner + member + indent + "}"
	return c.insert(c.root, lastMember(c.members), body, indent)
}

// without returns the document without the host, and without credHelpers when nothing else is in it.
func (c *config) without(host string) []byte {
	if len(c.hosts) == 1 {
		return c.remove(c.root, c.members, c.member)
	}
	var all []extent
	var this extent
	for _, at := range c.hosts {
		all = append(all, at.whole)
		if at.host == host {
			this = at.whole
		}
	}
	return c.remove(c.object, all, this)
}

// insert puts a member behind the last of an object, or into an empty one.
func (c *config) insert(object extent, last *extent, member, indent string) []byte {
	if last != nil {
		if indent == "" {
			indent = " "
		}
		return c.splice(extent{last.to, last.to}, []byte(","+indent+member))
	}
	closing := indent
	if indent != "" {
		closing = strings.TrimSuffix(indent, c.unit())
	}
	return c.splice(extent{object.from + 1, object.to - 1}, []byte(indent+member+closing))
}

// remove takes a member out of an object, with one comma.
func (c *config) remove(object extent, members []extent, member extent) []byte {
	i := slices.Index(members, member)
	switch {
	case len(members) == 1:
		return c.splice(extent{object.from + 1, object.to - 1}, nil)
	case i == 0:
		return c.splice(extent{member.from, members[1].from}, nil)
	}
	return c.splice(extent{members[i-1].to, member.to}, nil)
}

func (c *config) splice(at extent, with []byte) []byte {
	return slices.Concat(c.doc[:at.from], with, c.doc[at.to:])
}

// indentIn is what stands before the members of an object: a line's end and white space, or nothing for one on a single line.
func (c *config) indentIn(object extent, depth int) string {
	inside := c.doc[object.from+1 : object.to-1]
	end := bytes.IndexFunc(inside, func(r rune) bool { return !strings.ContainsRune(" \t\r\n", r) })
	if end >= 0 {
		if i := bytes.LastIndexByte(inside[:end], '\n'); i >= 0 {
			return c.newline() + string(inside[i+1:end])
		}
		return ""
	}
	if !bytes.Contains(bytes.TrimSpace(c.doc), []byte("\n")) && len(c.members) > 0 { // all on one line
		return ""
	}
	return c.newline() + strings.Repeat(c.unit(), depth)
}

func (c *config) newline() string {
	if bytes.Contains(c.doc, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// unit is what the document is indented by: what stands before its first member; a tab, as docker has it, when there is none.
func (c *config) unit() string {
	if len(c.members) > 0 {
		before := c.doc[c.root.from+1 : c.members[0].from]
		if i := bytes.LastIndexByte(before, '\n'); i >= 0 && i+1 < len(before) {
			return string(before[i+1:])
		}
	}
	return "\t"
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a text always can be
	return string(b)
}

func lastOf(hosts []hostAt) *extent {
	if len(hosts) == 0 {
		return nil
	}
	return &hosts[len(hosts)-1].whole
}

func lastMember(members []extent) *extent {
	if len(members) == 0 {
		return nil
	}
	return &members[len(members)-1]
}

// scanner walks over a document that is known to be valid JSON.
type scanner struct {
	doc []byte
	at  int
}

func (s *scanner) space() {
	for s.at < len(s.doc) && strings.IndexByte(" \t\r\n", s.doc[s.at]) >= 0 {
		s.at++
	}
}

// object calls member for each member of the object that begins here.
func (s *scanner) object(member func(key string, whole, value extent) error) (extent, error) {
	s.space()
	from := s.at
	if s.doc[s.at] != '{' {
		return extent{}, errors.New("is no object")
	}
	for s.at++; ; {
		s.space()
		switch s.doc[s.at] {
		case '}':
			s.at++
			return extent{from, s.at}, nil
		case ',':
			s.at++
			continue
		}
		begin := s.at
		name := s.value()
		var key string
		if err := json.Unmarshal(s.doc[name.from:name.to], &key); err != nil {
			return extent{}, err
		}
		s.space()
		s.at++ // the colon
		s.space()
		value := s.value()
		if err := member(key, extent{begin, value.to}, value); err != nil {
			return extent{}, err
		}
	}
}

// value walks over one value.
func (s *scanner) value() extent {
	from, depth := s.at, 0
	for {
		switch s.doc[s.at] {
		case '"':
			for s.at++; s.doc[s.at] != '"'; s.at++ {
				if s.doc[s.at] == '\\' {
					s.at++
				}
			}
			s.at++
		case '{', '[':
			depth++
			s.at++
		case '}', ']':
			depth--
			s.at++
		case ',', ':', ' ', '\t', '\r', '\n':
			s.at++
		default: // a number or a word
			for s.at < len(s.doc) && strings.IndexByte(",]} \t\r\n", s.doc[s.at]) < 0 {
				s.at++
			}
		}
		if depth == 0 {
			return extent{from, s.at}
		}
	}
}
