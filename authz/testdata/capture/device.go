package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// certificates are a device's: its leaf with intermediate and root, and a leaf
// whose names try to break out of the forwarded header.
type certificates struct {
	chain, tricky tls.Certificate
}

func makeCertificates(dir string) (certificates, error) {
	serial := int64(0)
	sign := func(name string, edit func(*x509.Certificate), issuer *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		serial++
		t := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		}
		edit(t)
		if issuer == nil {
			issuer, by = t, key
		}
		der, err := x509.CreateCertificate(rand.Reader, t, issuer, &key.PublicKey, by)
		if err != nil {
			return nil, nil, err
		}
		cert, err := x509.ParseCertificate(der)
		return cert, key, err
	}
	ca := func(t *x509.Certificate) { t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign }
	leaf := func(t *x509.Certificate) { t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	root, rootKey, err := sign("Vendor Root", ca, nil, nil)
	if err != nil {
		return certificates{}, err
	}
	middle, middleKey, err := sign("Vendor Line 7", ca, root, rootKey)
	if err != nil {
		return certificates{}, err
	}
	device, deviceKey, err := sign("sensor-0001", leaf, middle, middleKey)
	if err != nil {
		return certificates{}, err
	}
	odd, oddKey, err := sign(`sensor "2", \`, func(t *x509.Certificate) {
		leaf(t)
		t.URIs = []*url.URL{{Scheme: "urn", Opaque: `x;Chain="y",Hash=00`}}
		t.DNSNames = []string{"a,b;c"}
	}, middle, middleKey)
	if err != nil {
		return certificates{}, err
	}
	server, serverKey, err := sign("envoy", func(t *x509.Certificate) { t.DNSNames = []string{"*.iot.example.com"} }, nil, nil)
	if err != nil {
		return certificates{}, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return certificates{}, err
	}
	for name, block := range map[string]*pem.Block{
		"server.pem": {Type: "CERTIFICATE", Bytes: server.Raw}, "server.key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return certificates{}, err
		}
	}
	return certificates{
		chain:  tls.Certificate{Certificate: [][]byte{device.Raw, middle.Raw, root.Raw}, PrivateKey: deviceKey},
		tricky: tls.Certificate{Certificate: [][]byte{odd.Raw, middle.Raw}, PrivateKey: oddKey},
	}, nil
}

// A capture without a name only shows how Envoy answers.
type capture struct {
	name, listener string
	connect        func(network, address string) (string, error)
}

func cases(c certificates, sessions tls.ClientSessionCache) []capture {
	leafOnly := tls.Certificate{Certificate: c.chain.Certificate[:1], PrivateKey: c.chain.PrivateKey}
	with := func(sni string, cert *tls.Certificate) *tls.Config {
		t := &tls.Config{InsecureSkipVerify: true, ServerName: sni}
		if cert != nil {
			t.Certificates = []tls.Certificate{*cert}
		}
		return t
	}
	resumed := with("factory.iot.example.com", &c.chain)
	resumed.ClientSessionCache = sessions
	get := func(host string, headers ...string) string {
		return "GET /telemetry HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "Connection: close\r\n\r\n"
	}
	talk := func(t *tls.Config, send string) func(network, address string) (string, error) {
		return func(network, address string) (string, error) {
			conn, err := net.Dial(network, address)
			if err != nil {
				return "", err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			if proxy, rest, ok := strings.Cut(send, "|"); ok {
				if _, err := io.WriteString(conn, proxy); err != nil {
					return "", err
				}
				send = rest
			}
			state := ""
			if t != nil {
				conn = tls.Client(conn, t)
				if err := conn.(*tls.Conn).Handshake(); err != nil {
					return "", err
				}
				state = fmt.Sprintf("(resumed: %v) ", conn.(*tls.Conn).ConnectionState().DidResume)
			}
			if _, err := io.WriteString(conn, send); err != nil {
				return "", err
			}
			b, err := io.ReadAll(conn)
			return state + string(b), err
		}
	}
	const factory = "factory.iot.example.com"
	mqtt := get("mqtt") // Envoy does not parse it, and the backend answers it
	return []capture{
		{"http-three-certificates", "https", talk(with(factory, &c.chain), get(factory))},
		{"http-leaf-only", "https", talk(with(factory, &leafOnly), get(factory))},
		{"http-forged-headers", "https", talk(with(factory, &c.chain), get(factory, "X-Forwarded-Client-Cert: Hash=00;Cert=\"x\"", "hubgate-hub: other", "x-hub-id: other"))},
		{"http-no-sni", "https", talk(with("", &c.chain), get("10.0.0.1:8443"))},
		{"", "https", talk(resumed, get(factory))},
		{"http-resumed", "https", talk(resumed, get(factory))},
		{"http-tricky-names", "https", talk(with(factory, &c.tricky), get(factory))},
		{"http-forwarded-for", "https-hops", talk(with(factory, &c.chain), get(factory, "X-Forwarded-For: 203.0.113.9"))},
		{"http-proxy-protocol", "https-proxy", talk(with(factory, &c.chain), "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n|"+get(factory))},
		{"http-not-sanitised", "https-append", talk(with(factory, &c.chain), get(factory, "X-Forwarded-Client-Cert: Hash=00;Cert=\"x\""))},
		{"http-pipe", "https-pipe", talk(with(factory, &c.chain), get(factory))},
		{"http-no-certificate", "https-optional", talk(with(factory, nil), get(factory))},
		{"http-bare-listener", "https-bare", talk(with(factory, &c.chain), get(factory))},
		{"http-raw-headers", "https-raw", talk(with(factory, &c.chain), get(factory))},
		{"http-hub-hint", "https-hub", talk(with("", &c.chain), get("10.0.0.1"))},
		{"http-plaintext", "http", talk(nil, get(factory, "X-Forwarded-Client-Cert: Hash=00;Cert=\"x\""))},
		{"", "https", talk(with("deny.iot.example.com", &c.chain), get("deny.iot.example.com"))},
		{"", "https", talk(with("fault.iot.example.com", &c.chain), get("fault.iot.example.com"))},
		{"tcp", "tcp", talk(with(factory, &c.chain), mqtt)},
		{"", "tcp", talk(resumed, mqtt)},
		{"tcp-resumed", "tcp", talk(resumed, mqtt)},
		{"tcp-no-certificate", "tcp-optional", talk(with(factory, nil), mqtt)},
		{"tcp-proxy-protocol", "tcp-proxy", talk(with(factory, &c.chain), "PROXY TCP4 203.0.113.9 198.51.100.1 4711 8883\r\n|"+mqtt)},
		{"tcp-plaintext", "tcp-plain", talk(nil, mqtt)},
		{"tcp-hub-hint", "tcp-hub", talk(with("", &c.chain), mqtt)},
		{"tcp-bare-listener", "tcp-bare", talk(with(factory, &c.chain), mqtt)},
		{"", "tcp", talk(with("deny.iot.example.com", &c.chain), mqtt)},
		{"", "tcp", talk(with("fault.iot.example.com", &c.chain), mqtt)},
	}
}
