package demo

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// The hubs of the demo. Each trusts a CA of its own.
const (
	domain = "iot.example.com"
	// openHub creates devices on their first connection.
	openHub = "factory"
	// closedHub does not.
	closedHub = "lab"
)

// Files in the demo's directory.
const (
	openCA   = openHub + "-ca.pem"
	closedCA = closedHub + "-ca.pem"
	serverCA = "server-ca.pem"
	server   = "server" // .pem and .key
)

// device is a chip that came off somebody's line.
type device struct {
	name     string
	hub      string // which one it names in SNI
	source   netip.Addr
	identity *pki.Identity
	servers  *x509.CertPool // whom it believes
}

// factory holds the devices of the demo.
type factory struct {
	first, second *device
	newLine       *device // of a line that no hub has seen
	spare         *device // left for the user to connect
	foreign       *device // named as first, from a CA that no hub trusts
	expired       *device
	unknown       *device // of the hub that creates none
}

// newFactory makes the certificates and writes the files that hubgate, Envoy
// and the user need.
func newFactory(dir string) (*factory, error) {
	var err error
	keep := func(a *pki.Authority, failed error) *pki.Authority {
		err = errors.Join(err, failed)
		return a
	}
	vendor := keep(pki.NewRoot("Vendor Root CA"))
	other := keep(pki.NewRoot("Lab Root CA"))
	stranger := keep(pki.NewRoot("Foreign Root CA"))
	servers := keep(pki.NewRoot("Demo Server CA"))
	if err != nil {
		return nil, err
	}
	line := keep(vendor.Intermediate("Vendor Line 1"))
	line2 := keep(vendor.Intermediate("Vendor Line 2"))
	foreignLine := keep(stranger.Intermediate("Foreign Line 1"))
	if err != nil {
		return nil, err
	}

	believed := x509.NewCertPool()
	believed.AddCert(servers.Certificate)
	host := byte(10) // each device has an address of its own, as in life
	chip := func(hub string, issuer *pki.Authority, name string, options ...pki.Option) *device {
		identity, failed := issuer.Leaf(name, options...)
		err = errors.Join(err, failed)
		host++
		return &device{
			name: name, hub: hub, source: netip.AddrFrom4([4]byte{127, 0, 0, host}),
			identity: identity, servers: believed,
		}
	}
	lastYear := pki.WithValidity(time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0))
	f := &factory{
		first:   chip(openHub, line, "sensor-0001"),
		second:  chip(openHub, line, "sensor-0002"),
		spare:   chip(openHub, line, "sensor-0003"),
		expired: chip(openHub, line, "sensor-0004", lastYear),
		newLine: chip(openHub, line2, "sensor-0005"),
		foreign: chip(openHub, foreignLine, "sensor-0001"),
		unknown: chip(closedHub, other, "pump-0001"),
	}
	front, failed := servers.Server(domain, "*."+domain, "localhost", "127.0.0.1")
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	_, _, frontErr := front.WriteFiles(dir, server)
	_, _, spareErr := f.spare.identity.WriteFiles(dir, f.spare.name)
	return f, errors.Join(frontErr, spareErr,
		writeCA(dir, openCA, vendor), writeCA(dir, closedCA, other), writeCA(dir, serverCA, servers))
}

func writeCA(dir, name string, a *pki.Authority) error {
	return os.WriteFile(filepath.Join(dir, name), pki.EncodeCertificates(a.Certificate), 0o600)
}
