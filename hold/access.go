package hold

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

// rights are what one caller may do at a hold.
type rights struct {
	Captain bool
	Crew    bool // has a crew record
	Read    bool // layers, also of a public hold
	Write   bool
	Admin   bool // crew management, others' quota, stats
}

// member is a crew record and its key.
type member struct {
	atcr.Crew
	rkey string
}

// access is the captain and crew records in memory: every request asks them. It follows the repository by records.apply.
type access struct {
	writing sync.Mutex // writes of these records

	mu      sync.RWMutex
	captain atcr.Captain
	crew    map[string][]member // by DID; more than one record only where others wrote them
	byKey   map[string]string   // rkey to DID
}

func newAccess() *access {
	return &access{crew: map[string][]member{}, byKey: map[string]string{}}
}

func (a *access) setCaptain(value []byte) error {
	var c atcr.Captain
	if err := json.Unmarshal(value, &c); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.captain = c
	return nil
}

// takeCrew takes the whole crew of another.
func (a *access) takeCrew(from *access) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.crew, a.byKey = from.crew, from.byKey
}

// setCrew takes a crew record as JSON, or nil when it is gone.
func (a *access) setCrew(rkey string, value []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if did, ok := a.byKey[rkey]; ok {
		delete(a.byKey, rkey)
		a.crew[did] = slices.DeleteFunc(a.crew[did], func(m member) bool { return m.rkey == rkey })
		if len(a.crew[did]) == 0 {
			delete(a.crew, did)
		}
	}
	if value == nil {
		return nil
	}
	m := member{rkey: rkey}
	if err := json.Unmarshal(value, &m.Crew); err != nil {
		return err
	}
	a.byKey[rkey] = m.Member
	list := append(a.crew[m.Member], m)
	// The record at the key made from the DID counts; others are read where it is missing.
	own := atcr.CrewRKey(m.Member)
	slices.SortFunc(list, func(x, y member) int {
		return cmp.Or(-boolCmp(x.rkey == own, y.rkey == own), cmp.Compare(x.rkey, y.rkey))
	})
	a.crew[m.Member] = list
	return nil
}

func boolCmp(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

func (a *access) member(did string) (member, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if list := a.crew[did]; len(list) > 0 {
		return list[0], true
	}
	return member{}, false
}

// whose crew record a key is; empty for none.
func (a *access) whose(rkey string) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.byKey[rkey]
}

func (a *access) members() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.crew)
}

func (a *access) record() atcr.Captain {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.captain
}

// rights of a caller; did empty is anonymous.
func (a *access) rights(did string) rights {
	c := a.record()
	r := rights{Read: c.Public}
	if did == "" {
		return r
	}
	if did == c.Owner {
		return rights{Captain: true, Read: true, Write: true, Admin: true}
	}
	m, ok := a.member(did)
	if !ok {
		return r
	}
	r.Crew = true
	r.Admin = m.Can(atcr.PermissionCrewAdmin)
	r.Write = m.Can(atcr.PermissionBlobWrite)
	r.Read = r.Read || m.Can(atcr.PermissionBlobRead)
	return r
}

// follow keeps captain and crew in memory.
func (a *access) follow(res repo.Result, value []byte) error {
	var js []byte
	if res.Action != repo.Delete {
		var err error
		if js, err = repo.RecordToJSON(value); err != nil {
			return err
		}
	}
	switch {
	case res.Collection == atcr.NSIDCrew:
		return a.setCrew(res.RKey, js)
	case res.Collection == atcr.NSIDCaptain && js != nil:
		return a.setCaptain(js)
	}
	return nil
}
