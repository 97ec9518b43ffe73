package plclog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
)

const signingName = "atproto" // name of the signing key in an operation

// Service is an entry of a DID document: ID is the fragment without its #.
type Service struct{ ID, Type string }

// Self is a service's identity, as an operation of its did:plc names it.
type Self struct {
	DID       syntax.DID
	Key       atcrypto.PrivateKeyExportable
	Rotation  atcrypto.PrivateKeyExportable // nil without one
	PublicURL string
	Handle    syntax.Handle
	Services  []Service
}

// PLCOnly refuses a DID that no directory has. Errors: ErrNotPLC.
func (id *Self) PLCOnly() error {
	if id.DID.Method() != "plc" {
		return fmt.Errorf("%s is %w: it has no directory entry; what its host serves is its document", id.DID, ErrNotPLC)
	}
	return nil
}

// wanted returns the state that has our signing key, handle, services and recovery key, and all else as it is.
func (id *Self) wanted(now didplc.RegularOp, recovery string) (didplc.RegularOp, error) {
	pub, err := id.Key.PublicKey()
	if err != nil {
		return now, fmt.Errorf("public key of %s: %w", id.DID, err)
	}
	want := now
	want.VerificationMethods = maps.Clone(now.VerificationMethods)
	want.VerificationMethods[signingName] = pub.DIDKey()
	want.Services = maps.Clone(now.Services)
	old := map[string]bool{} // handles that were ours
	for _, s := range id.Services {
		if h := HandleOf(now.Services[s.ID].Endpoint); h != "" {
			old["at://"+h.String()] = true
		}
		want.Services[s.ID] = didplc.OpService{Type: s.Type, Endpoint: id.PublicURL}
	}
	want.AlsoKnownAs = wantedAliases(now.AlsoKnownAs, old, id.Handle.String())
	if recovery != "" && id.Rotation != nil {
		if pub, err = id.Rotation.PublicKey(); err != nil {
			return now, fmt.Errorf("public rotation key of %s: %w", id.DID, err)
		}
		want.RotationKeys = withRecovery(now.RotationKeys, pub.DIDKey(), recovery)
	}
	return want, nil
}

// wantedAliases puts our handle first among the handles, in place of older ones of ours.
func wantedAliases(now []string, old map[string]bool, handle string) []string {
	ours := "at://" + handle
	first := slices.IndexFunc(now, func(a string) bool { return strings.HasPrefix(a, "at://") })
	if handle != "" && first >= 0 && now[first] == ours {
		delete(old, ours)
	}
	var rest []string
	for i, a := range now {
		if old[a] || a == ours && i != first {
			continue
		}
		rest = append(rest, a)
	}
	if handle == "" || slices.Contains(rest, ours) {
		return append([]string{}, rest...)
	}
	at := slices.IndexFunc(rest, func(a string) bool { return strings.HasPrefix(a, "at://") })
	if at < 0 {
		at = len(rest)
	}
	return slices.Insert(append([]string{}, rest...), at, ours)
}

// withRecovery has the recovery key above ours.
func withRecovery(now []string, ours, recovery string) []string {
	mine, its := slices.Index(now, ours), slices.Index(now, recovery)
	if its >= 0 && (its < mine || mine < 0) {
		return now
	}
	keys := slices.DeleteFunc(slices.Clone(now), func(k string) bool { return k == recovery })
	if mine = slices.Index(keys, ours); mine < 0 {
		mine = 0
	}
	return slices.Insert(keys, mine, recovery)
}

// Differences returns what an operation changes, as lines, "what: before -> after"; nothing for what stays.
func Differences(a, b didplc.RegularOp) []string {
	var d []string
	line := func(what, before, after string) {
		if before != after {
			d = append(d, fmt.Sprintf("%s: %s -> %s", what, orNone(before), orNone(after)))
		}
	}
	for _, name := range union(a.VerificationMethods, b.VerificationMethods) {
		line("key #"+name, a.VerificationMethods[name], b.VerificationMethods[name])
	}
	line("also known as", strings.Join(a.AlsoKnownAs, " "), strings.Join(b.AlsoKnownAs, " "))
	for _, name := range union(a.Services, b.Services) {
		line("service #"+name, serviceText(a.Services, name), serviceText(b.Services, name))
	}
	line("rotation keys", strings.Join(a.RotationKeys, " "), strings.Join(b.RotationKeys, " "))
	return d
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func serviceText(all map[string]didplc.OpService, name string) string {
	s, ok := all[name]
	if !ok {
		return ""
	}
	return s.Type + " at " + s.Endpoint
}

func union[V any](a, b map[string]V) []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(names)
	return slices.Compact(names)
}

// State is what an operation says of the DID. Its slices and maps are the caller's own.
func State(e *didplc.LogEntry) (didplc.RegularOp, error) {
	var s didplc.RegularOp
	switch op := e.Operation; {
	case op.Regular != nil:
		s = *op.Regular
	case op.Legacy != nil:
		s = op.Legacy.RegularOp()
	default:
		return s, fmt.Errorf("%w: %s", ErrTombstone, e.DID)
	}
	s.Type, s.Prev, s.Sig = "plc_operation", nil, nil
	s.RotationKeys = append([]string{}, s.RotationKeys...)
	s.AlsoKnownAs = append([]string{}, s.AlsoKnownAs...)
	methods, services := map[string]string{}, map[string]didplc.OpService{}
	for name, key := range s.VerificationMethods {
		methods[name] = key
	}
	for name, service := range s.Services {
		services[name] = service
	}
	s.VerificationMethods, s.Services = methods, services
	return s, nil
}
