package httpx

import (
	"net/netip"
	"testing"
)

func TestGuardCheck(t *testing.T) {
	private := netip.MustParsePrefix("10.1.0.0/16")
	guards := map[string]Guard{
		"public": {},
		"test":   {Loopback: true, Hosts: []string{"pds.internal", "169.254.169.254"}},
		"net":    {Allow: []netip.Prefix{private, netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fd12::/16")}},
	}
	for _, c := range []struct {
		addr, host string
		ok         string // the guards that let it through
	}{
		{"1.1.1.1", "", "public test net"},
		{"2606:4700::1111", "", "public test net"},
		{"127.0.0.1", "", "test"},
		{"127.9.9.9", "", "test"},
		{"::1", "", "test"},
		{"::ffff:127.0.0.1", "", "test"},
		{"10.1.2.3", "", "net"},
		{"10.1.2.3", "pds.internal", "test net"},
		{"10.1.2.3", "PDS.internal.", "test net"},
		{"::ffff:10.1.2.3", "", "net"},
		{"10.2.2.3", "", ""},
		{"172.31.0.1", "", ""},
		{"192.168.1.1", "", ""},
		{"100.64.0.1", "", ""},
		{"100.100.100.200", "pds.internal", ""},
		{"168.63.129.16", "", ""},
		{"169.254.169.254", "169.254.169.254", ""},
		{"169.254.1.1", "", ""},
		{"fe80::1%eth0", "pds.internal", ""},
		{"fd00:ec2::254", "pds.internal", ""},
		{"fd12::1", "", "net"},
		{"fc00::1", "", ""},
		{"fec0::1", "", ""},
		{"0.0.0.0", "pds.internal", ""},
		{"::", "pds.internal", ""},
		{"224.0.0.1", "pds.internal", ""},
		{"ff02::1", "pds.internal", ""},
		{"255.255.255.255", "pds.internal", ""},
		{"240.0.0.1", "", ""},
		{"198.18.0.1", "", ""},
		{"192.0.2.1", "", ""},
		{"64:ff9b::8.8.8.8", "", "public test net"},
		{"64:ff9b::127.0.0.1", "", ""},
		{"64:ff9b::10.1.2.3", "", ""},
		{"64:ff9b::a9fe:a9fe", "", ""},
		{"64:ff9b:1::808:808", "", ""},
		{"2002:7f00:1::", "", ""},
		{"2002:808:808::1", "", "public test net"},
		{"2001:0:7f00:1::", "", ""},
		{"2001:db8::1", "", ""},
		{"::7f00:1", "", ""},
		{"4000::1", "", ""},
	} {
		for name, g := range guards {
			err := g.Check(c.host, netip.MustParseAddr(c.addr))
			if want := contains(c.ok, name); (err == nil) != want {
				t.Errorf("guard %s, %s for host %q: allowed=%v, want %v (%v)", name, c.addr, c.host, err == nil, want, err)
			}
		}
	}
	if err := (&Guard{}).Check("", netip.Addr{}); err == nil {
		t.Error("the zero address was allowed")
	}
}

func contains(list, name string) bool {
	for len(list) >= len(name) {
		if list[:len(name)] == name {
			return true
		}
		list = list[1:]
	}
	return false
}
