package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// dialTLS connects to a hook, if it is where hooks may be.
func (h *Hooks) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if file := h.config.CAFile; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("hook_ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("hook_ca_file: %s holds no certificate in PEM form", file)
		}
	}
	// What is checked is the address that is connected to, so a name cannot
	// resolve to one address for the check and to another for the connection.
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return h.permits(at.Addr())
	}}
	d := tls.Dialer{NetDialer: dialer, Config: config}
	return d.DialContext(ctx, network, address)
}

// permits says why no hook may be at an address.
func (h *Hooks) permits(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	if slices.ContainsFunc(h.config.Networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
		return nil
	}
	public := a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(n netip.Prefix) bool { return n.Contains(a) })
	if !public {
		return fmt.Errorf("%s is not public, and in none of admission.hook_networks", a)
	}
	return nil
}

// notPublic are the networks that IsGlobalUnicast and IsPrivate do not know to
// be somebody's own, or lead to such: of IANA's special-purpose registries.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),  // carriers'; some clouds' metadata
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments
	netip.MustParsePrefix("198.18.0.0/15"),  // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved
	netip.MustParsePrefix("::/96"),          // IPv4 in IPv6, old
	netip.MustParsePrefix("64:ff9b::/96"),   // IPv4 behind a translator
	netip.MustParsePrefix("64:ff9b:1::/48"), // the same, locally
	netip.MustParsePrefix("2001::/23"),      // protocol assignments, Teredo
	netip.MustParsePrefix("2002::/16"),      // 6to4
	netip.MustParsePrefix("fec0::/10"),      // site-local
}
