package fleet

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// maxChallengeValidity bounds a challenge certificate's whole validity: one that
// was made for another occasion long ago proves nothing about today.
const maxChallengeValidity = 7 * 24 * time.Hour

// checkAnchor checks a certificate that is to be an anchor. Unlike one in a
// file, it has to be valid now: whoever installs it is there to hear that.
func checkAnchor(c *x509.Certificate, now time.Time) error {
	if err := trust.CheckAnchor(c); err != nil {
		code := Invalid
		var unfit *trust.UnfitError
		if errors.As(err, &unfit) {
			code = unfitCodes[unfit.Why]
		}
		return invalidBy(code, "certificate", "%s", err)
	}
	switch {
	case now.After(c.NotAfter):
		return invalidBy(Expired, "certificate", "the CA certificate expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore.Add(-trust.NotBeforeLeeway)):
		return invalidBy(NotYetValid, "certificate", "the CA certificate is valid from %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

var unfitCodes = map[trust.Unfit]Code{
	trust.CannotSign:            NotACA,
	trust.UnsupportedKey:        KeyUnsupported,
	trust.UnenforcedConstraints: ConstraintsUnsupported,
	trust.Nameless:              NotACA,
}

// checkChallenge checks the proof that whoever installs a CA has its key: a
// certificate that it signed, for this hub and lately. It is pure.
func checkChallenge(hub provision.HubID, ca *x509.Certificate, challenge string, now time.Time) error {
	if strings.TrimSpace(challenge) == "" {
		return invalidBy(ChallengeMissing, "challenge",
			"challenge: a certificate with the common name %s is needed, signed by this CA and valid for 7 days at most: `hubgate pki challenge` makes one", hub)
	}
	c, err := parseOne("challenge", challenge)
	if err != nil {
		return err
	}
	switch name := c.Subject.CommonName; {
	case !strings.EqualFold(name, hub.String()):
		return invalidBy(ChallengeWrongName, "challenge", "challenge: its common name is %q, not the hub's ID %s", shorten(name), hub)
	case !bytes.Equal(c.RawIssuer, ca.RawSubject), c.CheckSignatureFrom(ca) != nil:
		return invalidBy(ChallengeNotSigned, "challenge", "challenge: it is not signed by this CA itself (an intermediate's signature does not do)")
	case now.After(c.NotAfter):
		return invalidBy(ChallengeExpired, "challenge", "challenge: it expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore.Add(-trust.NotBeforeLeeway)):
		return invalidBy(ChallengeNotYetValid, "challenge", "challenge: it is valid from %s", c.NotBefore.UTC().Format(time.RFC3339))
	case c.NotAfter.Sub(c.NotBefore) > maxChallengeValidity:
		return invalidBy(ChallengeTooLong, "challenge", "challenge: it is valid for %s, more than 7 days", c.NotAfter.Sub(c.NotBefore))
	}
	return nil
}

func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// maxCertificates bounds what one field of a request holds.
const maxCertificates = maxIntermediates

// parseAll reads certificates in PEM form, at least one, and nothing else.
func parseAll(field, text string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(all) == 0 || len(bytes.TrimSpace(rest)) > 0 {
				return nil, invalid(field, "%s: holds what is no certificate in PEM form", field)
			}
			return all, nil
		}
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, invalid(field, "%s: holds a private key: it is not needed, and should be replaced now that it was sent", field)
		case block.Type != "CERTIFICATE":
			return nil, invalid(field, "%s: holds a block %q, which is no certificate", field, shorten(block.Type))
		case len(all) == maxCertificates:
			return nil, invalid(field, "%s: holds more than %d certificates", field, maxCertificates)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid(field, "%s: certificate %d cannot be read: %s", field, len(all)+1, shorten(err.Error()))
		}
		all = append(all, c)
	}
}

// parseOne reads one certificate in PEM form.
func parseOne(field, text string) (*x509.Certificate, error) {
	all, err := parseAll(field, text)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 {
		return nil, invalid(field, "%s: holds %d certificates: give the one", field, len(all))
	}
	return all[0], nil
}
