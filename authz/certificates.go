package authz

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/hubgate/hubgate/trust"
)

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"

	// maxBase64 is the length of MaxChainBytes in base64, each of at most
	// MaxCertificates padded and set apart by a comma.
	maxBase64 = (trust.MaxChainBytes+2)/3*4 + 5*trust.MaxCertificates
	// maxEncodedPEM is the length of the same chain as PEM (lines of 64 and the
	// two boundaries) with every character percent-encoded. What is longer
	// exceeds the limits of package trust, so it is not decoded.
	maxEncodedPEM = 3 * (maxBase64 + maxBase64/64 + trust.MaxCertificates*(len(pemBegin)+len(pemEnd)+3))
)

// errTooLong: the chain exceeds what package trust would accept.
var errTooLong = fmt.Errorf("more than %d certificates or %d bytes", trust.MaxCertificates, trust.MaxChainBytes)

// decodePEM decodes certificates as Envoy sends them: PEM, percent-encoded as
// in a path (a plus sign is a plus sign). Unlike encoding/pem it takes nothing
// else: no other blocks, no headers, no bytes before, between or after. It
// stops at the limits of package trust with errTooLong.
func decodePEM(encoded string) ([][]byte, error) {
	if len(encoded) > maxEncodedPEM {
		return nil, errTooLong
	}
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return nil, fmt.Errorf("not URL-encoded: %w", err)
	}
	var certs [][]byte
	size := 0
	for {
		text = strings.TrimLeft(text, "\r\n")
		if text == "" && len(certs) > 0 {
			return certs, nil
		}
		body, ok := strings.CutPrefix(text, pemBegin)
		if !ok {
			return nil, fmt.Errorf("no PEM block of type CERTIFICATE where certificate %d should begin", len(certs)+1)
		}
		if body, text, ok = strings.Cut(body, pemEnd); !ok {
			return nil, fmt.Errorf("the PEM block of certificate %d does not end", len(certs)+1)
		}
		der, err := decodeBase64(body)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, der)
		if size += len(der); len(certs) > trust.MaxCertificates || size > trust.MaxChainBytes {
			return nil, errTooLong
		}
	}
}

// decodeList decodes certificates as the hubgate module sends them: base64,
// comma-separated. It stops where decodePEM does.
func decodeList(encoded string) ([][]byte, error) {
	if len(encoded) > maxBase64 {
		return nil, errTooLong
	}
	var certs [][]byte
	size := 0
	for one := range strings.SplitSeq(encoded, ",") {
		der, err := decodeBase64(one)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, der)
		if size += len(der); len(certs) > trust.MaxCertificates || size > trust.MaxChainBytes {
			return nil, errTooLong
		}
	}
	return certs, nil
}

func decodeBase64(s string) ([]byte, error) {
	der, err := base64.StdEncoding.DecodeString(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("broken base64: %w", err)
	case len(der) == 0:
		return nil, errors.New("empty")
	}
	return der, nil
}

// decodeFingerprints decodes comma-separated SHA-256 fingerprints in hex, at
// most one more than a chain may have certificates.
func decodeFingerprints(encoded string) ([]trust.Fingerprint, error) {
	var prints []trust.Fingerprint
	for one := range strings.SplitSeq(encoded, ",") {
		var f trust.Fingerprint
		if len(one) != hex.EncodedLen(len(f)) {
			return nil, fmt.Errorf("fingerprint %d has %d characters", len(prints)+1, len(one))
		}
		if _, err := hex.Decode(f[:], []byte(one)); err != nil {
			return nil, fmt.Errorf("fingerprint %d: %w", len(prints)+1, err)
		}
		if prints = append(prints, f); len(prints) > trust.MaxCertificates {
			break
		}
	}
	return prints, nil
}
