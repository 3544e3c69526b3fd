package trust

import (
	"encoding/asn1"
	"time"
)

// Outline is what a certificate says of itself as an issuer, read without
// parsing it: a fiftieth of the work, and no memory. It finds and sorts
// certificates; nothing is decided by it. Of a certificate that crypto/x509
// parses it says the same as the parsed one; others may have one all the same.
type Outline struct {
	Subject []byte // raw
	KeyID   []byte // subject key identifier, nil if there is none

	notAfter []byte // raw
}

// ReadOutline reads a certificate's outline. It is false if the DER has none.
func ReadOutline(der []byte) (o Outline, ok bool) {
	certificate, rest, ok := element(der)
	if !ok || len(rest) > 0 || der[0] != tagSequence {
		return o, false
	}
	tbs, _, ok := element(certificate)
	if !ok || certificate[0] != tagSequence {
		return o, false
	}
	r := reader{rest: tbs}
	version := r.optional(tagVersion)
	r.next(tagInteger)  // serial number
	r.next(tagSequence) // algorithm
	r.next(tagSequence) // issuer
	validity, _ := r.next(tagSequence)
	_, o.Subject = r.next(tagSequence)
	r.next(tagSequence) // key
	if string(version) == version3 {
		r.optional(tagIssuerID)
		r.optional(tagSubjectID)
		extensions := reader{rest: r.optional(tagExtensions), broken: r.broken}
		if len(extensions.rest) > 0 {
			o.KeyID, r.broken = subjectKeyID(extensions)
		}
	}
	r = reader{rest: validity, broken: r.broken}
	r.any() // not before
	o.notAfter = r.any()
	return o, !r.broken
}

// subjectKeyID looks for it in a certificate's extensions.
func subjectKeyID(r reader) (id []byte, broken bool) {
	list, _ := r.next(tagSequence)
	r.rest = list
	for len(r.rest) > 0 && !r.broken {
		extension, _ := r.next(tagSequence)
		e := reader{rest: extension, broken: r.broken}
		if id, _ := e.next(tagOID); string(id) != oidSubjectKeyID {
			continue
		}
		e.optional(tagBoolean) // critical
		value, _ := e.next(tagOctetString)
		e.rest = value
		id, _ = e.next(tagOctetString)
		return id, e.broken
	}
	return nil, r.broken
}

// NotAfter is when the certificate expires; the zero time if that is not a time.
func (o Outline) NotAfter() (t time.Time) {
	if _, err := asn1.Unmarshal(o.notAfter, &t); err != nil {
		return time.Time{}
	}
	return t
}

// More identifier octets.
const (
	tagBoolean    = 0x01
	tagInteger    = 0x02
	tagVersion    = 0xa0
	tagIssuerID   = 0x81
	tagSubjectID  = 0x82
	tagExtensions = 0xa3
)

// What is compared as it is encoded.
const (
	version3        = "\x02\x01\x02" // which alone has extensions
	oidSubjectKeyID = "\x55\x1d\x0e" // 2.5.29.14
)

// reader takes values off DER. Once it is broken all that it gives is empty.
type reader struct {
	rest   []byte
	broken bool
}

// next takes the next value, which has that tag: its content, and all of it.
func (r *reader) next(tag byte) (content, whole []byte) {
	if r.broken || len(r.rest) == 0 || r.rest[0] != tag {
		r.broken = true
		return nil, nil
	}
	content, rest, ok := element(r.rest)
	if !ok {
		r.broken = true
		return nil, nil
	}
	whole, r.rest = r.rest[:len(r.rest)-len(rest)], rest
	return content, whole
}

// any takes the next value, whatever it is.
func (r *reader) any() (whole []byte) {
	if len(r.rest) == 0 {
		r.broken = true
		return nil
	}
	_, whole = r.next(r.rest[0])
	return whole
}

// optional takes the content of the next value if it has that tag.
func (r *reader) optional(tag byte) (content []byte) {
	if len(r.rest) > 0 && r.rest[0] == tag {
		content, _ = r.next(tag)
	}
	return content
}
