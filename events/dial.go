package events

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
)

// TLS says how a sink's server is verified and who we are to it. Files are read
// at every connection, so that who renews them need not tell us.
type TLS struct {
	// CAFile holds the CAs of the server's certificate; "": the system's.
	CAFile string
	// CertFile and KeyFile are our certificate; "": none.
	CertFile, KeyFile string
}

// config makes the TLS configuration of a connection to that server.
func (t TLS) config(server string) (*tls.Config, error) {
	c := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM form", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// lasting is config for whoever makes connections to that server without asking
// us each time: files are read when one is made all the same.
func (t TLS) lasting(server string) *tls.Config {
	c := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	if t.CertFile != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			now, err := t.config(server)
			if err != nil {
				return nil, err
			}
			return &now.Certificates[0], nil
		}
	}
	if t.CAFile != "" {
		c.InsecureSkipVerify = true // VerifyConnection verifies, by what the file has then
		c.VerifyConnection = func(s tls.ConnectionState) error {
			now, err := t.config(server)
			if err != nil {
				return err
			}
			rest := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				rest.AddCert(c)
			}
			_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: server, Roots: now.RootCAs, Intermediates: rest})
			return err
		}
	}
	return c
}

// secret reads a file that holds a secret: now, as it may have been replaced.
func secret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

func tlsDial(ctx context.Context, network, address string, config *tls.Config) (net.Conn, error) {
	d := tls.Dialer{Config: config}
	return d.DialContext(ctx, network, address)
}
