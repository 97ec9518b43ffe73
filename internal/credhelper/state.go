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
	"runtime"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
)

// stateVersion is that of the file's form; one of a later form is left alone.
const stateVersion = 1

// maxState is more than a thousand accounts need.
const maxState = 4 << 20

// lockLimit is how long a process waits for another one to write.
const lockLimit = 15 * time.Second

// state is the file.
type state struct {
	Version  int                   `json:"version"`
	SaidFile bool                  `json:"said_file,omitempty"` // that secrets lie in this file
	Hosts    map[string]*hostState `json:"hosts"`
}

type hostState struct {
	Active   string              `json:"active,omitempty"` // a key of Accounts
	Accounts map[string]*account `json:"accounts,omitempty"`
	Rules    []rule              `json:"rules,omitempty"`
}

type account struct {
	DID     string    `json:"did,omitempty"`
	Device  string    `json:"device,omitempty"` // name of the device that was signed in; "" for what docker stored
	Since   time.Time `json:"since"`
	Token   bool      `json:"token,omitempty"`   // the secret is an identity token, and goes by the user name [tokenUser]
	Keyring bool      `json:"keyring,omitempty"` // the secret is in the keyring
	Secret  string    `json:"secret,omitempty"`
}

// username is what clients are told of an account's name.
func (a *account) username(name string) string {
	if a.Token {
		return tokenUser
	}
	return name
}

// find returns the name that an account is kept by: its own, or that of its DID; "" when it isn't there.
func (at *hostState) find(name string) string {
	if at.Accounts[name] != nil {
		return name
	}
	for key, a := range at.Accounts {
		if a.DID != "" && a.DID == name {
			return key
		}
	}
	return ""
}

// read returns the file's content; without a file there is none.
func (h *Helper) read() (*state, error) {
	s := &state{Version: stateVersion, Hosts: map[string]*hostState{}}
	if h.file == "" {
		return s, nil
	}
	raw, err := readPrivate(h.file, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("%s: %w: mend it, or remove it and sign in again", h.file, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%s: version %d, this program knows %d: use a newer one", h.file, s.Version, stateVersion)
	}
	if s.Hosts == nil {
		s.Hosts = map[string]*hostState{}
	}
	for host, at := range s.Hosts {
		if at == nil {
			delete(s.Hosts, host)
			continue
		}
		if at.Accounts == nil {
			at.Accounts = map[string]*account{}
		}
		for name, a := range at.Accounts {
			if a == nil {
				delete(at.Accounts, name)
			}
		}
	}
	return s, nil
}

// readPrivate reads a file that others may not read.
func readPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Windows has no such modes: who may read is inherited from the user's folder.
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o, others may read it: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, err
}

// change reads the file, has f change it, and puts the new one in its place, while no other process does the same. It takes the caller's
// time for a keyring, too, so that the two say the same.
func (h *Helper) change(f func(*state) error) error {
	if h.file == "" {
		return errors.New("there is no folder to keep secrets in: set HOME, or ATCR_HELPER_DIR")
	}
	if err := durable.MkdirAll(h.Dir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(h.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := h.read()
	if err != nil {
		return err
	}
	if err := f(s); err != nil {
		return err
	}
	for host, at := range s.Hosts {
		if len(at.Accounts) == 0 && len(at.Rules) == 0 {
			delete(s.Hosts, host)
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return err
	}
	return replace(h.file, out.Bytes(), 0o600)
}

// replace writes a file whole; where its name is a symbolic link, as those who keep their settings elsewhere have it, the link stays.
func replace(path string, data []byte, mode fs.FileMode) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	for deadline := time.Now().Add(time.Second); ; {
		err := durable.WriteFile(path, data, mode)
		if err == nil || runtime.GOOS != "windows" || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond) // Windows replaces no file that somebody reads at that moment
	}
}

// lockDir waits for the folder's lock.
func lockDir(dir string) (*durable.Lock, error) {
	for deadline := time.Now().Add(lockLimit); ; {
		lock, err := durable.LockDir(dir)
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(deadline) {
			return lock, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// rule says which account a repository is for.
type rule struct {
	Repository string `json:"repository"` // as in acme.example.com/*; * stands for anything
	Account    string `json:"account"`
}

// ruleFor returns the first rule that fits the repository that a client asks for; nil when none does, or none is known.
func (at *hostState) ruleFor(repository, host string, command func() []string) *rule {
	if repository == "" && command != nil {
		repository = repositoryIn(command(), host)
	}
	if repository == "" {
		return nil
	}
	for i := range at.Rules {
		if matches(at.Rules[i].Repository, repository) {
			return &at.Rules[i]
		}
	}
	return nil
}

// repositoryIn finds the repository of a host that a command line names. Of several it is the last, which is the one that copies go to.
func repositoryIn(args []string, host string) (found string) {
	for _, arg := range args {
		arg = strings.ToLower(arg)
		for from := 0; ; {
			i := strings.Index(arg[from:], host+"/")
			if i < 0 {
				break
			}
			i += from
			from = i + len(host) + 1
			if i > 0 && isNameByte(arg[i-1]) && !(i == 2 && arg[0] == '-') { // another host's end, but for one as in -tHOST
				continue
			}
			end := from
			for end < len(arg) && (isNameByte(arg[end]) || arg[end] == '/') {
				end++
			}
			if name := strings.Trim(arg[from:end], "/"); strings.Contains(name, "/") {
				found = name
			}
		}
	}
	return found
}

func isNameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '.' || b == '_' || b == '-'
}

// matches reports whether a pattern fits a name; * stands for any text, slashes too.
func matches(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return strings.HasSuffix(name, last)
}
