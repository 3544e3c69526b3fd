package config

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxFile bounds a file that is read: a list of a thousand hubs is 300 KiB.
const maxFile = 8 << 20

// sources are the files that were read, by path, with a hash of what was read;
// zero for one that could not be read.
type sources map[string][sha256.Size]byte

// read reads a file and remembers it in l.sources.
func (l *loader) read(path string) ([]byte, error) {
	data, err := readFile(path)
	if l.sources != nil {
		l.sources[path] = fingerprint(data, err)
	}
	return data, err
}

func fingerprint(data []byte, err error) [sha256.Size]byte {
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(data)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %d MiB", maxFile>>20)
	}
	return data, nil
}

// certificate is one that a hub names, with the place in the file that does.
type certificate struct {
	item
	der []byte
}

// certificates reads the PEM files of a list. Each may hold several.
func (l *loader) certificates(s *section, key string, place *declared) []certificate {
	var all []certificate
	listed := map[string]bool{}
	items, fit := s.items(key)
	if !fit {
		place.unfit = append(place.unfit, key)
	}
	for _, it := range items {
		path := l.resolve(it.value)
		if listed[path] {
			l.add(it.line, it.key, "%s is in this list already: remove one", it.value)
			continue
		}
		listed[path] = true
		data, err := l.read(path)
		var ders [][]byte
		if err == nil {
			ders, err = parseCertificates(data)
		}
		if err != nil {
			l.add(it.line, it.key, "%s: %s", it.value, plain(err))
			place.unfit = append(place.unfit, key)
		}
		for _, der := range ders {
			all = append(all, certificate{it, der})
		}
	}
	return all
}

var errNoPEM = errors.New("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")

// parseCertificates reads a PEM file of certificates and nothing else.
func parseCertificates(data []byte) ([][]byte, error) {
	if _, err := x509.ParseCertificate(data); err == nil {
		return nil, errors.New("is a certificate in DER form: convert it with `openssl x509 -inform der -in FILE -out FILE.pem`")
	}
	var ders [][]byte
	begun := bytes.Count(data, []byte("-----BEGIN "))
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		begun--
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, errors.New("holds a private key: hubgate needs none of a CA; keep the certificate alone in this file")
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("holds a block %q, which is no certificate", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("certificate %d in it is broken: %s", len(ders)+1, strings.TrimPrefix(err.Error(), "x509: "))
		}
		ders = append(ders, block.Bytes)
	}
	switch {
	case begun > 0:
		return nil, fmt.Errorf("a PEM block in it is broken: %d of %d can be read", len(ders), len(ders)+begun)
	case len(ders) == 0:
		return nil, errNoPEM
	}
	return ders, nil
}
