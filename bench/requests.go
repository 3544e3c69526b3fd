package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hubgate/hubgate/bench/grpcload"
	"github.com/hubgate/hubgate/internal/pki"
)

const (
	domain  = "iot.example.com"
	hubName = "factory"
	sni     = hubName + "." + domain
	// checkMethod is what Envoy calls.
	checkMethod = "/envoy.service.auth.v3.Authorization/Check"
)

// vendor issues device certificates: root, one intermediate, leaf.
type vendor struct {
	root, line *pki.Authority
	made       []*pki.Identity
}

func newVendor(name string) (*vendor, error) {
	root, err := pki.NewRoot(name + " root")
	if err != nil {
		return nil, err
	}
	line, err := root.Intermediate(name + " line")
	return &vendor{root: root, line: line}, err
}

func (v *vendor) rootPEM() []byte { return pki.EncodeCertificates(v.root.Certificate) }

// chips are the vendor's first n devices.
func (v *vendor) chips(n int) ([]*pki.Identity, error) {
	for len(v.made) < n {
		chip, err := v.line.Leaf(fmt.Sprintf("sensor-%06d", len(v.made)))
		if err != nil {
			return nil, err
		}
		v.made = append(v.made, chip)
	}
	return v.made[:n], nil
}

// presented is what a device presents: leaf, line, and the root as well.
func presented(chip *pki.Identity) []*x509.Certificate {
	return append(slices.Clone(chip.Chain), chip.Root)
}

// escape encodes as Envoy does in x-forwarded-client-cert.
var escape = strings.NewReplacer("%", "%25", " ", "%20", "\n", "%0A", "+", "%2B", "/", "%2F", "=", "%3D")

func encodePEM(certs ...*x509.Certificate) string {
	return escape.Replace(string(pki.EncodeCertificates(certs...)))
}

func fingerprints(chain []*x509.Certificate) string {
	prints := make([]string, len(chain))
	for i, c := range chain {
		sum := sha256.Sum256(c.Raw)
		prints[i] = hex.EncodeToString(sum[:])
	}
	return strings.Join(prints, ",")
}

func address(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// metadata is what Envoy's configuration adds to a check. Each check has a
// connection of its own; numbers begin at 1.
func metadata(chain []*x509.Certificate, connection int) [][2]string {
	return [][2]string{
		{"hubgate-chain-sha256", fingerprints(chain)},
		{"hubgate-connection", fmt.Sprint(connection)},
		{"hubgate-node", "envoy-1"},
		{"hubgate-source", "192.0.2.7"},
	}
}

func attributes(chain []*x509.Certificate) *authv3.AttributeContext {
	return &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{
			Address: address("192.0.2.7", 50123), Principal: chain[0].Subject.String(), Certificate: encodePEM(chain[0]),
		},
		Destination: &authv3.AttributeContext_Peer{Address: address("127.0.0.1", 8443), Principal: "*." + domain},
		TlsSession:  &authv3.AttributeContext_TLSSession{Sni: sni},
	}
}

// httpCheck is the check of one HTTP request, as Envoy sends it.
func httpCheck(chip *pki.Identity, connection int) grpcload.Request {
	chain := presented(chip)
	a := attributes(chain)
	sum := sha256.Sum256(chain[0].Raw)
	forwarded := fmt.Sprintf(`Hash=%s;Cert="%s";Chain="%s";Subject="%s";URI=`,
		hex.EncodeToString(sum[:]), encodePEM(chain[0]), encodePEM(chain...), chain[0].Subject)
	a.Request = &authv3.AttributeContext_Request{
		Time: timestamppb.New(time.Unix(1800000000, 0)),
		Http: &authv3.AttributeContext_HttpRequest{
			Id: "301869002086919832", Method: "GET", Path: "/telemetry", Host: sni, Scheme: "https", Protocol: "HTTP/1.1",
			Headers: map[string]string{
				":authority": sni, ":method": "GET", ":path": "/telemetry", ":scheme": "https",
				"x-envoy-external-address": "192.0.2.7", "x-forwarded-client-cert": forwarded,
				"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https",
				"x-request-id": "deb23563-cef9-424d-994e-a122176aa85d",
			},
		},
	}
	return grpcload.Request{Message: &authv3.CheckRequest{Attributes: a}, Metadata: metadata(chain, connection)}
}

// mqttCheck is the check of one MQTT connection behind an Envoy with hubgate's
// library.
func mqttCheck(chip *pki.Identity, connection int) grpcload.Request {
	chain := presented(chip)
	ders := make([]string, len(chain))
	for i, c := range chain {
		ders[i] = base64.StdEncoding.EncodeToString(c.Raw)
	}
	return grpcload.Request{
		Message:  &authv3.CheckRequest{Attributes: attributes(chain)},
		Metadata: append(metadata(chain, connection), [2]string{"hubgate-chain", strings.Join(ders, ",")}),
	}
}
