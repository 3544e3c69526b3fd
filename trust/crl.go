package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

const (
	// MaxCRLBytes bounds a certificate revocation list in DER: room for some
	// 200,000 entries.
	MaxCRLBytes = 8 << 20
	// maxCRLNumber is what RFC 5280, 5.2.3 bounds a CRL's number to, in bits.
	maxCRLNumber = 160
)

// CRL is a certificate revocation list (RFC 5280, 5) whose scope is everything
// that its issuer signs. It is immutable.
type CRL struct {
	// Issuer is the key that signed it, and the certificates in it.
	Issuer KeyHash
	// Name is the issuer's name.
	Name pkix.Name
	// Number grows with every list of an issuer.
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	// Revoked are the certificates in it.
	Revoked []RevocationID
	// DER is the list as it was signed.
	DER []byte
}

// ErrNoIssuer is that none of the CAs at hand is the issuer of a CRL.
var ErrNoIssuer = errors.New("its issuer is none of the CAs known")

// ParseCRL parses a CRL, DER or PEM, and verifies its signature with the key of
// that of the CAs that has its issuer's name. Refused is what does not say all of
// what its issuer has revoked: delta CRLs, indirect ones, those with an issuing
// distribution point, any critical extension that is not known; and one without
// a number or a next update. It may be out of date.
func ParseCRL(data []byte, issuers []*x509.Certificate) (*CRL, error) {
	der, err := crlDER(data)
	if err != nil {
		return nil, err
	}
	list, err := parseCRL(der)
	if err != nil {
		return nil, err
	}
	signer, err := crlIssuer(list, issuers)
	if err != nil {
		return nil, err
	}
	return newCRL(list, KeyHashOf(signer)), nil
}

// ReadCRL reads a CRL that ParseCRL accepted before, of that issuer.
func ReadCRL(der []byte, issuer KeyHash) (*CRL, error) {
	list, err := parseCRL(der)
	if err != nil {
		return nil, err
	}
	return newCRL(list, issuer), nil
}

func newCRL(list *x509.RevocationList, issuer KeyHash) *CRL {
	c := &CRL{
		Issuer: issuer, Name: list.Issuer, Number: list.Number, DER: list.Raw,
		ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate,
		Revoked: make([]RevocationID, len(list.RevokedCertificateEntries)),
	}
	for i, e := range list.RevokedCertificateEntries {
		c.Revoked[i] = SerialID(issuer, e.SerialNumber)
	}
	return c
}

// crlDER unpacks PEM.
func crlDER(data []byte) ([]byte, error) {
	const pemOverhead = 3 // a third for base64, line ends, and some comments
	if len(data) > MaxCRLBytes*pemOverhead/2 {
		return nil, fmt.Errorf("it has more than %d bytes", MaxCRLBytes)
	}
	der := data
	if len(data) > 0 && data[0] != tagSequence {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return nil, errors.New("it is neither DER nor PEM")
		case block.Type != "X509 CRL":
			return nil, fmt.Errorf("it is PEM of type %s; a CRL's is X509 CRL", shorten(block.Type))
		case len(bytes.TrimSpace(rest)) > 0:
			return nil, errors.New("there is more than one PEM block in it")
		}
		der = block.Bytes
	}
	if len(der) > MaxCRLBytes {
		return nil, fmt.Errorf("it has more than %d bytes", MaxCRLBytes)
	}
	return der, nil
}

// parseCRL parses a list and checks all but its signature.
func parseCRL(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	switch {
	case err != nil:
		return nil, fmt.Errorf("it does not parse: %s", shorten(strings.TrimPrefix(err.Error(), "x509: ")))
	case len(list.Raw) != len(der):
		return nil, errors.New("something follows it")
	case list.Number == nil:
		return nil, errors.New("it has no number, so that nothing tells an old list from a new one")
	case list.Number.Sign() < 0 || list.Number.BitLen() > maxCRLNumber:
		return nil, errors.New("its number is negative, or longer than 20 octets")
	case list.NextUpdate.IsZero():
		return nil, errors.New("it does not say when the next list is due")
	case !list.NextUpdate.After(list.ThisUpdate):
		return nil, errors.New("the next list is due before it was made")
	}
	if err := checkCRLExtensions(list.Extensions); err != nil {
		return nil, err
	}
	for _, e := range list.RevokedCertificateEntries {
		if err := checkCRLEntry(e); err != nil {
			return nil, fmt.Errorf("its entry of serial number %s: %w", cut(fmt.Sprintf("%X", e.SerialNumber), shownValue), err)
		}
	}
	return list, nil
}

var (
	oidCRLNumber        = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReasonCode       = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate   = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDeltaCRL         = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint     = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateOwner = asn1.ObjectIdentifier{2, 5, 29, 29} // certificateIssuer
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
)

func checkCRLExtensions(extensions []pkix.Extension) error {
	for i, e := range extensions {
		switch {
		case slices.ContainsFunc(extensions[:i], func(o pkix.Extension) bool { return o.Id.Equal(e.Id) }):
			return fmt.Errorf("its extension %s is there twice", showOID(e.Id))
		case e.Id.Equal(oidDeltaCRL):
			return errors.New("it is a delta CRL; a full one is needed")
		case e.Id.Equal(oidIssuingPoint):
			return errors.New("it has an issuing distribution point, so that it covers only part of what its issuer signs")
		case e.Critical && !e.Id.Equal(oidCRLNumber) && !e.Id.Equal(oidAuthorityKeyID):
			return fmt.Errorf("its critical extension %s is not supported", showOID(e.Id))
		}
	}
	return nil
}

// removeFromCRL is the reason of an entry that only a delta CRL has (RFC 5280,
// 5.3.1).
const removeFromCRL = 8

func checkCRLEntry(e x509.RevocationListEntry) error {
	if e.ReasonCode == removeFromCRL {
		return errors.New("its reason is that of a delta CRL")
	}
	for _, x := range e.Extensions {
		switch {
		case x.Id.Equal(oidCertificateOwner):
			return errors.New("another CA signed that certificate: the list is an indirect CRL")
		case x.Critical && !x.Id.Equal(oidReasonCode) && !x.Id.Equal(oidInvalidityDate):
			return fmt.Errorf("its critical extension %s is not supported", showOID(x.Id))
		}
	}
	return nil
}

// crlIssuer returns the CA that signed the list.
func crlIssuer(list *x509.RevocationList, cas []*x509.Certificate) (*x509.Certificate, error) {
	failure := fmt.Errorf("%s: %w", show(list.Issuer), ErrNoIssuer)
	tried := 0
	for _, c := range cas {
		if !bytes.Equal(c.RawSubject, list.RawIssuer) {
			continue
		}
		if tried++; tried > MaxSignatureChecks {
			break
		}
		err := checkCRLSigner(list, c)
		if err == nil {
			return c, nil
		}
		failure = fmt.Errorf("%s did not sign it: %w", subject(c), err)
	}
	return nil, failure
}

func checkCRLSigner(list *x509.RevocationList, c *x509.Certificate) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("it is not a CA")
	case hasExtension(c, oidKeyUsage) && c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return errors.New("its key usage does not include CRL signing")
	case unsupportedKey(c) != "":
		return errors.New(unsupportedKey(c))
	case signerOf(list.SignatureAlgorithm) != c.PublicKeyAlgorithm:
		return fmt.Errorf("the signature's algorithm %s is not accepted for its key", list.SignatureAlgorithm)
	}
	if err := list.CheckSignatureFrom(c); err != nil {
		return errors.New("the signature does not verify")
	}
	return nil
}
