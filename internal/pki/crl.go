package pki

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// CRL makes a list of certificates of a's that are revoked, in DER. Its next
// update is due in a day, unless options say otherwise.
func (a *Authority) CRL(number int64, revoked []*x509.Certificate, opts ...func(*x509.RevocationList)) ([]byte, error) {
	now := time.Now()
	t := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
	}
	for _, o := range opts {
		o(t)
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, a.Certificate, a.Key)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return der, nil
}
