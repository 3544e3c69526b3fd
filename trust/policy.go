package trust

import (
	"crypto/x509"
	"errors"
	"slices"
	"time"
)

// judge looks at everything but signatures first, so that the failure names
// the certificate, then leaves the last word to crypto/x509.
func judge(path []*x509.Certificate, now time.Time) *Error {
	leaf, anchor := path[0], path[len(path)-1]
	at := now
	for _, c := range path {
		if now.After(c.NotAfter) {
			return fail(Expired, c, "%s expired on %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
		}
		if now.Add(NotBeforeLeeway).Before(c.NotBefore) {
			return fail(NotYetValid, c, "%s is not valid before %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
		}
		if at.Before(c.NotBefore) { // within the leeway
			at = c.NotBefore
		}
	}
	if leaf.BasicConstraintsValid && leaf.IsCA {
		return fail(WrongUsage, leaf, "%s is a CA, not a device", leaf.Subject)
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fail(WrongUsage, leaf, "the key usage of %s lacks digitalSignature", leaf.Subject)
	}
	for _, c := range path {
		if !forClients(c) {
			return fail(WrongUsage, c, "the extended key usage of %s lacks clientAuth", c.Subject)
		}
		if err := checkConstraints(c); err != nil {
			return fail(Untrusted, c, "%s cannot be used: %v", c.Subject, err)
		}
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, c := range path[1 : len(path)-1] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		return nil
	}
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) {
		return fail(Untrusted, leaf, "the chain of %s is not valid: %v", leaf.Subject, err)
	}
	switch invalid.Reason {
	case x509.Expired:
		return fail(Expired, invalid.Cert, "%s is outside its validity: %v", invalid.Cert.Subject, err)
	case x509.IncompatibleUsage:
		return fail(WrongUsage, invalid.Cert, "%s is not made for client authentication: %v", invalid.Cert.Subject, err)
	default:
		return fail(Untrusted, invalid.Cert, "%s is not valid in this chain: %v", invalid.Cert.Subject, err)
	}
}

// forClients reports whether the extended key usage (RFC 5280, section
// 4.2.1.12) allows client authentication; none at all allows everything.
func forClients(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}
