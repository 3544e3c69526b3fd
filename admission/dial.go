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

	"github.com/hubgate/hubgate/events/endpoint"
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
	if !endpoint.Public(a) {
		return fmt.Errorf("%s is not public, and in none of admission.hook_networks", a)
	}
	return nil
}
