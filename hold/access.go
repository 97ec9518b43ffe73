package hold

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
)

// Rights are what one caller may do at a hold.
type Rights struct {
	Captain bool
	Crew    bool // has a crew record
	Read    bool // layers, also of a public hold
	Write   bool
	Admin   bool // crew management, others' quota, stats
}

// captain is what is read of the captain record.
type captain struct {
	Owner        string `json:"owner"`
	Public       bool   `json:"public"`
	AllowAllCrew bool   `json:"allowAllCrew"`
}

// member is what is read of a crew record.
type member struct {
	Member      string   `json:"member"`
	Role        string   `json:"role"`
	Permissions []string `json:"permissions"`
	Tier        string   `json:"tier,omitempty"`
	AddedAt     string   `json:"addedAt"`

	rkey string
}

// access is the captain and crew records in memory: every request asks them. It follows the repository by [Server.apply].
type access struct {
	mu      sync.RWMutex
	captain captain
	crew    map[string][]member // by DID; more than one record only where others wrote them
	byKey   map[string]string   // rkey to DID
}

func newAccess() *access {
	return &access{crew: map[string][]member{}, byKey: map[string]string{}}
}

func (a *access) setCaptain(value []byte) error {
	var c captain
	if err := json.Unmarshal(value, &c); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.captain = c
	return nil
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
	var m member
	if err := json.Unmarshal(value, &m); err != nil {
		return err
	}
	m.rkey = rkey
	a.byKey[rkey] = m.Member
	list := append(a.crew[m.Member], m)
	// The record at the key made from the DID counts; others are read where it is missing.
	own := crewKey(m.Member)
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

func (a *access) members() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return len(a.crew)
}

func (a *access) record() captain {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.captain
}

// rights of a caller; did empty is anonymous.
func (a *access) rights(did string) Rights {
	c := a.record()
	r := Rights{Read: c.Public}
	if did == "" {
		return r
	}
	if did == c.Owner {
		return Rights{Captain: true, Read: true, Write: true, Admin: true}
	}
	m, ok := a.member(did)
	if !ok {
		return r
	}
	r.Crew = true
	r.Admin = slices.Contains(m.Permissions, CrewAdmin)
	r.Write = r.Admin || slices.Contains(m.Permissions, BlobWrite)
	r.Read = r.Read || r.Write || slices.Contains(m.Permissions, BlobRead)
	return r
}
