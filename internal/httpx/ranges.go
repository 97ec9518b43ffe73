package httpx

import "net/netip"

// rangeKind names a range of addresses that is not public unicast.
type rangeKind struct {
	prefix netip.Prefix
	kind   string
}

// Kinds that nothing opens.
const (
	kindMetadata    = "metadata service"
	kindLinkLocal   = "link-local"
	kindMulticast   = "multicast"
	kindUnspecified = "unspecified"
	kindReserved    = "reserved"
)

func never(kind string) bool {
	switch kind {
	case kindMetadata, kindLinkLocal, kindMulticast, kindUnspecified, kindReserved:
		return true
	}
	return false
}

// specialRanges follows the IANA special-purpose registries; the first match wins, so single hosts stand first.
func specialRanges() []rangeKind {
	p := netip.MustParsePrefix
	return []rangeKind{
		{p("100.100.100.200/32"), kindMetadata}, {p("168.63.129.16/32"), kindMetadata},
		{p("169.254.0.0/16"), kindLinkLocal}, {p("192.0.0.192/32"), kindMetadata},
		{p("fd00:ec2::/32"), kindMetadata}, {p("fd20:ce::254/128"), kindMetadata},
		{p("0.0.0.0/8"), kindUnspecified}, {p("127.0.0.0/8"), "loopback"},
		{p("10.0.0.0/8"), "private"}, {p("172.16.0.0/12"), "private"}, {p("192.168.0.0/16"), "private"},
		{p("100.64.0.0/10"), "shared (carrier NAT)"},
		{p("192.0.0.0/24"), "private"}, {p("192.0.2.0/24"), "documentation"}, {p("198.51.100.0/24"), "documentation"},
		{p("203.0.113.0/24"), "documentation"}, {p("198.18.0.0/15"), "private"}, {p("192.88.99.0/24"), kindReserved},
		{p("224.0.0.0/4"), kindMulticast}, {p("240.0.0.0/4"), kindReserved},
		{p("::/128"), kindUnspecified}, {p("::1/128"), "loopback"}, {p("::/96"), kindReserved},
		{p("64:ff9b:1::/48"), "private"}, {p("100::/64"), kindReserved},
		{p("2001:db8::/32"), "documentation"}, {p("3fff::/20"), "documentation"}, {p("2001::/23"), kindReserved},
		{p("fc00::/7"), "private"}, {p("fe80::/10"), kindLinkLocal}, {p("fec0::/10"), "private"}, {p("ff00::/8"), kindMulticast},
	}
}

var special = specialRanges()

// kindOf returns the kind of an address that is not public unicast, or "".
func kindOf(a netip.Addr) string {
	if !a.IsValid() {
		return kindReserved
	}
	if r := rangeOf(a); r.kind != "" {
		return r.kind
	}
	if a.Is6() && !netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3).Contains(a) && !isNAT64(a) {
		return kindReserved // outside 2000::/3 nothing is assigned as global unicast
	}
	return ""
}

// rangeOf returns the special range that an address lies in, or none.
func rangeOf(a netip.Addr) rangeKind {
	for _, r := range special {
		if r.prefix.Contains(a) {
			return r
		}
	}
	return rangeKind{}
}

func isNAT64(a netip.Addr) bool {
	b := a.As16()
	return a.Is6() && [12]byte(b[:12]) == [12]byte{0, 0x64, 0xff, 0x9b}
}

// embeddedIPv4 returns the IPv4 address that an IPv6 address leads to: mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056).
// Teredo is not among them: all of 2001::/23 is reserved.
func embeddedIPv4(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	v4 := func(i int) (netip.Addr, bool) { return netip.AddrFrom4([4]byte(b[i : i+4])), true }
	switch {
	case a.Is4In6(), isNAT64(a):
		return v4(12)
	case b[0] == 0x20 && b[1] == 0x02:
		return v4(2)
	}
	return netip.Addr{}, false
}

// plain is the IPv4 address that an IPv6 address leads to, else the address.
func plain(a netip.Addr) netip.Addr {
	if v4, ok := embeddedIPv4(a); ok {
		return v4
	}
	return a.WithZone("")
}
