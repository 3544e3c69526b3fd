package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/provision"
)

func newPKI(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("pki", "Make what proves that a CA is yours",
		newPKIChallenge(&t, std),
	), "")
}

// Validity of challenges.
const (
	defaultChallenge = 24 * time.Hour
	maxChallenge     = 7 * 24 * time.Hour
	// challengeLeeway is for a hubgate whose clock is behind.
	challengeLeeway = 5 * time.Minute
)

type challengeFlags struct {
	ca, key, hub, out string
	valid             time.Duration
}

func newPKIChallenge(t *target, std streams) *cobra.Command {
	var f challengeFlags
	c := &cobra.Command{
		Use:   "challenge --ca CA.pem --key CA.key --hub HUB",
		Short: "Make the certificate that proves that you own a CA",
		Long: `Make a challenge certificate: its common name is the hub's ID, and the CA itself
signs it. ` + "`hubgate anchor add`" + ` takes it as the proof that the CA's key is yours.
The key is used here and sent nowhere. hubgate is asked only for the ID of a hub
that is given by name. Nobody keeps the challenge's own key: as a device's
certificate it is of no use.`,
		Example: `  hubgate pki challenge --ca ca.pem --key ca.key --hub factory --out challenge.pem
  hubgate anchor add factory ca.pem --challenge challenge.pem`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := f.make(c, t)
			if err != nil {
				return err
			}
			if f.out == "" {
				_, err := std.out.Write(text)
				return err
			}
			if err := os.WriteFile(f.out, text, 0o644); err != nil { //nolint:gosec // a certificate is public
				return err
			}
			return say(std.out, "%s is valid for %s. Install the CA with `hubgate anchor add %s %s --challenge %s`.\n", f.out, f.valid, f.hub, f.ca, f.out)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.ca, "ca", "", "the CA's certificate, PEM")
	flags.StringVar(&f.key, "key", "", "its private key, PEM, not encrypted")
	flags.StringVar(&f.hub, "hub", "", "the hub that the CA is for (ID, or name)")
	flags.StringVar(&f.out, "out", "", "write into this file instead of standard output")
	flags.DurationVar(&f.valid, "valid-for", defaultChallenge, "how long it is valid; at most 168h, which is 7 days")
	_ = c.RegisterFlagCompletionFunc("hub", t.completeHubFlag) // fails only for a flag that is not there
	return c
}

func (f *challengeFlags) make(c *cobra.Command, t *target) ([]byte, error) {
	switch {
	case f.ca == "":
		return nil, usage("--ca is missing: name the CA's certificate")
	case f.key == "":
		return nil, usage("--key is missing: name the CA's private key")
	case f.hub == "":
		return nil, usage("--hub is missing: name the hub that the CA is for")
	case f.valid < time.Minute || f.valid > maxChallenge:
		return nil, usage("--valid-for: %s is not from 1m to %s", f.valid, maxChallenge)
	}
	ca, err := readCA(f.ca)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	key, err := readKey(f.key)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	id, err := provision.ParseHubID(f.hub)
	if err != nil {
		err = t.with(c.Context(), func(client *client) error {
			var h admin.Hub
			if err := client.call(c.Context(), http.MethodGet, hubPath(f.hub), nil, nil, &h); err != nil {
				return err
			}
			id, err = provision.ParseHubID(h.ID)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("the ID of hub %s: %w", f.hub, err)
		}
	}
	der, err := challenge(ca, key, id, time.Now(), f.valid)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// challenge makes the proof that the owner of that CA wants it on that hub.
func challenge(ca *x509.Certificate, key crypto.Signer, hub provision.HubID, now time.Time, valid time.Duration) ([]byte, error) {
	public, ok := ca.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ca.IsCA || !ca.BasicConstraintsValid:
		return nil, fmt.Errorf("%s is no CA (basicConstraints CA:TRUE is missing): hubgate would not take it as a trust anchor", ca.Subject)
	case now.After(ca.NotAfter):
		return nil, fmt.Errorf("%s expired on %s: hubgate would not take it as a trust anchor", ca.Subject, clock(ca.NotAfter))
	case now.Before(ca.NotBefore):
		return nil, fmt.Errorf("%s is not valid before %s", ca.Subject, clock(ca.NotBefore))
	case !ok || !public.Equal(key.Public()):
		return nil, fmt.Errorf("the key is not that of %s: name the key that belongs to this very certificate", ca.Subject)
	}
	throwaway, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	// The validity is the whole span, so that what hubgate counts is what was
	// asked for. No certificate outlives its issuer.
	begin := now.Add(-challengeLeeway)
	if begin.Before(ca.NotBefore) {
		begin = ca.NotBefore
	}
	end := begin.Add(valid)
	if end.After(ca.NotAfter) {
		end = ca.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject:               pkix.Name{CommonName: hub.String()},
		NotBefore:             begin,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}, ca, throwaway.Public(), key)
}

// readCA reads a file with one certificate.
func readCA(path string) (*x509.Certificate, error) {
	text, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil || block.Type != "CERTIFICATE":
		return nil, fmt.Errorf("%s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", path)
	case bytes.Contains(rest, []byte("-----BEGIN CERTIFICATE-----")):
		return nil, fmt.Errorf("%s holds several certificates: name a file with the CA alone", path)
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ca, nil
}

// maxPEM is far beyond a key or a certificate.
const maxPEM = 1 << 20

func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, maxPEM>>10)
	}
	return os.ReadFile(path)
}

// readKey reads a private key: PKCS #8, or as OpenSSL wrote them before.
func readKey(path string) (crypto.Signer, error) {
	text, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("%s holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)", path)
		}
		var key any
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, fmt.Errorf("%s is encrypted: decrypt it with `openssl pkey -in %s`, or make the challenge with openssl, as the documentation says", path, path)
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue // OpenSSL puts EC PARAMETERS before the key
		}
		if err != nil {
			return nil, fmt.Errorf("%s: the key does not parse", path) // not the parser's words: it is a secret
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New(path + ": its kind of key cannot sign")
		}
		return signer, nil
	}
}
