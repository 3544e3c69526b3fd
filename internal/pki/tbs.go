package pki

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	_ "crypto/sha1" //nolint:gosec // to sign what nobody should
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// TBS is the signed part of a certificate (RFC 5280, 4.1.2), as raw as editing
// it takes.
type TBS struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   asn1.RawValue
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

type certificate struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// Edit changes what crypto/x509 would not make so, and signs it anew with the
// issuer's key and hash (zero for Ed25519). An algorithm that changes is to be
// set in the TBS. The result need not parse.
func Edit(der []byte, issuer crypto.Signer, hash crypto.Hash, change func(*TBS)) ([]byte, error) {
	var c certificate
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	var tbs TBS
	if _, err := asn1.Unmarshal(c.TBS.FullBytes, &tbs); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	change(&tbs)
	raw, err := asn1.Marshal(tbs)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	digest := raw
	if _, ok := issuer.(ed25519.PrivateKey); !ok {
		h := hash.New()
		_, _ = h.Write(raw)
		digest = h.Sum(nil)
	}
	signature, err := issuer.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return asn1.Marshal(certificate{
		TBS:       asn1.RawValue{FullBytes: raw},
		Algorithm: tbs.Algorithm,
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}

// WithEdit applies Edit, with SHA-256, to a certificate whose issuer's key is
// P-256 or RSA.
func WithEdit(change func(*TBS)) Option {
	return WithDER(func(der []byte, issuer crypto.Signer) ([]byte, error) {
		return Edit(der, issuer, crypto.SHA256, change)
	})
}

// WithSHA1 signs with ECDSA and SHA-1; the issuer's key is ECDSA.
func WithSHA1() Option {
	return WithDER(func(der []byte, issuer crypto.Signer) ([]byte, error) {
		return Edit(der, issuer, crypto.SHA1, func(t *TBS) {
			t.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}}
		})
	})
}

// WithRSAModulus replaces the certified key by an RSA key of that many bits and
// that exponent, which nobody has: its modulus is 2^bits - 1.
func WithRSAModulus(bits uint, exponent int) Option {
	return WithEdit(func(t *TBS) {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		key, err := asn1.Marshal(struct {
			N *big.Int
			E int
		}{n.Sub(n, big.NewInt(1)), exponent})
		if err != nil {
			panic(err) // integers marshal
		}
		spki, err := asn1.Marshal(struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}{
			pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue},
			asn1.BitString{Bytes: key, BitLength: 8 * len(key)},
		})
		if err != nil {
			panic(err)
		}
		t.PublicKey = asn1.RawValue{FullBytes: spki}
	})
}
