package auth

import (
	"encoding/json"
	"errors"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/seal"
)

// boundSuffix makes the name of the file that says that all rows are sealed with their PDS: it lies beside the keys, where whoever
// writes to the database alone can't remove it.
const boundSuffix = ".bound"

// tokens are what a PDS gave for a password.
type tokens struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh"`
}

// place is what a row's secret belongs to: everything that says whose it is and where it is sent. Whoever can write to the database
// must not be able to have it sent elsewhere.
type place struct{ id, did, pds string }

func (p place) bytes() []byte { return []byte("2\x00" + p.id + "\x00" + p.did + "\x00" + p.pds) }

// before is the form of versions that did not bind the PDS.
func (p place) before() []byte { return []byte(p.id + "\x00" + p.did) }

// sealer encrypts tokens and makes MACs of passwords, under the keys of session.key.
type sealer struct {
	keys *seal.Keys
	path string
	old  bool // rows of before may be there: see [sealer.openOld]
}

// loadSealer reads session.key, or makes it.
func loadSealer(path string) (*sealer, error) {
	keys, created, err := seal.Load(path, "atcr session")
	if err != nil {
		return nil, err
	}
	s := &sealer{keys: keys, path: path}
	if created {
		return s, s.setBound()
	}
	bound, err := exists(path + boundSuffix)
	s.old = !bound
	return s, err
}

// setBound ends the time in which rows of before are taken.
func (s *sealer) setBound() error {
	s.old = false
	return durable.ReplaceSecret(s.path+boundSuffix, []byte(
		"Every session is sealed together with the server that its tokens are sent to. While this file is here nothing else is opened.\n"))
}

// mac is what a row knows of a password, by one of the keys.
func (s *sealer) mac(key int, did, password string) []byte {
	return s.keys.MAC(key, []byte(did+"\x00"+password))
}

// seal encrypts tokens so that they open in the same row alone.
func (s *sealer) seal(p place, t tokens) ([]byte, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return s.keys.Seal(p.bytes(), b), nil
}

var errSealed = errors.New("session can't be decrypted: was session.key replaced?")

// open decrypts what seal made under any of the keys.
func (s *sealer) open(p place, sealed []byte) (t tokens, err error) {
	t, _, err = s.openWith(p.bytes(), sealed)
	return t, err
}

// openOld is open for rows of before, which are taken once: at the first start of a version that binds the PDS.
func (s *sealer) openOld(p place, sealed []byte) (t tokens, err error) {
	if !s.old {
		return t, errSealed
	}
	t, _, err = s.openWith(p.before(), sealed)
	return t, err
}

// openWith returns which key it was, too.
func (s *sealer) openWith(bound, sealed []byte) (t tokens, key int, err error) {
	b, key, err := s.keys.Open(bound, sealed)
	if err != nil {
		return t, 0, errSealed
	}
	return t, key, json.Unmarshal(b, &t)
}
