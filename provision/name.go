package provision

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxNameRunes bounds a device name, in characters: the upper bound of
// commonName in RFC 5280, appendix A.1.
const MaxNameRunes = 64

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// deviceName reads the device's name out of its leaf: exactly one common name,
// fit for a name. The error says what is wrong with it, for operators.
func deviceName(leaf *x509.Certificate, allowUnicode bool) (string, error) {
	var names []string
	for _, attribute := range leaf.Subject.Names {
		if attribute.Type.Equal(oidCommonName) {
			name, ok := attribute.Value.(string)
			if !ok {
				return "", fmt.Errorf("the common name is no string")
			}
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("the leaf has %d common names, not exactly one", len(names))
	}
	if err := CheckDeviceName(names[0], allowUnicode); err != nil {
		return "", err
	}
	return names[0], nil
}

// CheckDeviceName reports what makes a device name unusable. A name is 1 to 64
// characters of printable ASCII without edge spaces and without / + # $, which
// mean something in MQTT topics. allowUnicode also takes
// letters beyond ASCII, in normal form C, without controls, invisible format
// characters and line or paragraph separators.
func CheckDeviceName(name string, allowUnicode bool) error {
	if !utf8.ValidString(name) {
		return fmt.Errorf("the common name is not valid UTF-8")
	}
	if n := utf8.RuneCountInString(name); n < 1 || n > MaxNameRunes {
		return fmt.Errorf("the common name has %d characters, not 1 to %d", n, MaxNameRunes)
	}
	for _, r := range name {
		switch {
		case r == '/' || r == '+' || r == '#' || r == '$':
			return fmt.Errorf("the common name %q contains %q, which means something in MQTT topics", name, r)
		case r >= 0x20 && r < 0x7f:
		case r < 0x80 || !allowUnicode:
			return fmt.Errorf("the common name %q contains %U, which is not printable ASCII", name, r)
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp) || !unicode.IsGraphic(r):
			return fmt.Errorf("the common name %q contains %U, which cannot be seen", name, r)
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return fmt.Errorf("the common name %q begins or ends with a space", name)
	}
	if !norm.NFC.IsNormalString(name) {
		return fmt.Errorf("the common name %q is not in Unicode normal form C", name)
	}
	return nil
}
