package envoy

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// maxSocketPath is the longest path a Unix socket can have on Linux, in bytes.
const maxSocketPath = 107

// endpoint is an address of Options, parsed: a socket's path, or a port with
// either an IP address or a name.
type endpoint struct {
	path string
	name string
	ip   netip.Addr
	port uint32
}

func parseEndpoint(s string) (endpoint, bool) {
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		ok = strings.HasPrefix(path, "/") && len(path) <= maxSocketPath && isPlain(path)
		return endpoint{path: path}, ok
	}
	h, p, err := net.SplitHostPort(s)
	if err != nil {
		return endpoint{}, false
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || port == 0 {
		return endpoint{}, false
	}
	e := endpoint{port: uint32(port)}
	if e.ip, err = netip.ParseAddr(h); err == nil {
		return e, e.ip.Zone() == ""
	}
	e.name = h
	return e, isDomain(h)
}

// host is the name or IP address in an address, empty if it has none.
func host(address string) string {
	e, ok := parseEndpoint(address)
	switch {
	case !ok:
		return ""
	case e.ip.IsValid():
		return e.ip.String()
	default:
		return e.name
	}
}

// endpointAddress translates an address that Validate has passed.
func endpointAddress(s string) *corev3.Address {
	e, _ := parseEndpoint(s)
	if e.path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.path}}}
	}
	socket := &corev3.SocketAddress{
		Address:       host(s),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: e.port},
		// "[::]" without this would leave IPv4 out.
		Ipv4Compat: e.ip == netip.IPv6Unspecified(),
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: socket}}
}
