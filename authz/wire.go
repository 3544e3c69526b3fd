package authz

import (
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hubgate/hubgate/provision"
)

// question is what hubgate reads of a CheckRequest (envoy.service.auth.v3): a
// few of its fields. Decoding the generated type instead costs more than the
// decision on a known device. FuzzQuestion holds the two to each other.
type question struct {
	isHTTP bool   // attributes.request.http is there
	host   string // its host
	scheme string // its scheme
	// forwarded is XFCC in its headers, forwardedRaw that in its header_map.
	forwarded    string
	forwardedRaw []string
	// authorization and authorizationRaw are the same of that header.
	authorization    string
	authorizationRaw []string

	certificate          string // attributes.source.certificate
	sourceAddress        string // attributes.source.address.socket_address.address
	sourcePrincipal      string
	destinationPrincipal string
	sni                  string // attributes.tls_session.sni
	hub                  string // attributes.context_extensions["hub"]

	// buffer is where the strings are; nil if they are anywhere.
	buffer mem.Buffer
}

// free gives the memory of the question back. Whoever still asks it, asks an
// empty one.
func (q *question) free() {
	buffer := q.buffer
	*q = question{}
	if buffer != nil {
		buffer.Free()
	}
}

// protocol is what the device speaks to Envoy.
func (q *question) protocol() provision.Protocol {
	if q.isHTTP {
		return provision.HTTP
	}
	return provision.TCP
}

// errWire is any flaw in the encoding.
var errWire = errors.New("the CheckRequest is not the protobuf message that it should be")

// parse reads an encoded CheckRequest into a new question, whose strings are then
// parts of it: what is to outlive the question has to be cloned.
func (q *question) parse(message string) error {
	return fields(message, func(number protowire.Number, value string) error {
		if number == 1 {
			return fields(value, q.attribute)
		}
		return nil
	})
}

// fields calls each with the fields of a message that are length-delimited, as
// all are that matter here, and skips the others. A field of another wire type
// than the schema says is an unknown one, here as in the generated types.
func fields(message string, each func(number protowire.Number, value string) error) error {
	for len(message) > 0 {
		tag, n := varint(message)
		if n == 0 {
			return errWire
		}
		message = message[n:]
		number, kind := protowire.DecodeTag(tag)
		if !number.IsValid() {
			return errWire
		}
		if kind != protowire.BytesType {
			// Short, and rare in what Envoy sends.
			n = protowire.ConsumeFieldValue(number, kind, []byte(message))
			if n < 0 {
				return errWire
			}
			message = message[n:]
			continue
		}
		length, n := varint(message)
		if n == 0 || length > uint64(len(message)-n) {
			return errWire
		}
		value := message[n : n+int(length)]
		message = message[n+int(length):]
		if err := each(number, value); err != nil {
			return err
		}
	}
	return nil
}

// varint returns a number and the length of its encoding, 0 if it has none.
func varint(s string) (value uint64, length int) {
	for i := range min(len(s), 10) {
		b := s[i]
		if i == 9 && b > 1 {
			return 0, 0
		}
		value |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return value, i + 1
		}
	}
	return 0, 0
}

// take takes a string, of which the last one counts.
func take(into *string, value string) error {
	if !utf8.ValidString(value) {
		return errWire
	}
	*into = value
	return nil
}

// attribute reads a field of AttributeContext.
func (q *question) attribute(number protowire.Number, value string) error {
	switch number {
	case 1:
		return fields(value, q.source)
	case 2:
		return fields(value, func(number protowire.Number, value string) error {
			if number == 4 {
				return take(&q.destinationPrincipal, value)
			}
			return nil
		})
	case 4:
		return fields(value, func(number protowire.Number, value string) error {
			if number == 2 {
				q.isHTTP = true
				return fields(value, q.http)
			}
			return nil
		})
	case 10:
		key, value, err := mapEntry(value)
		if key == keyHubExtension {
			q.hub = value
		}
		return err
	case 12:
		return fields(value, func(number protowire.Number, value string) error {
			if number == 1 {
				return take(&q.sni, value)
			}
			return nil
		})
	}
	return nil
}

// source reads a field of AttributeContext.Peer.
func (q *question) source(number protowire.Number, value string) error {
	switch number {
	case 1:
		return fields(value, q.address)
	case 4:
		return take(&q.sourcePrincipal, value)
	case 5:
		return take(&q.certificate, value)
	}
	return nil
}

// address reads a field of core.v3.Address, of which only one is set: the last.
func (q *question) address(number protowire.Number, value string) error {
	switch number {
	case 1:
		return fields(value, func(number protowire.Number, value string) error {
			if number == 2 {
				return take(&q.sourceAddress, value)
			}
			return nil
		})
	case 2, 3: // a pipe, an internal address
		q.sourceAddress = ""
	}
	return nil
}

// http reads a field of AttributeContext.HttpRequest.
func (q *question) http(number protowire.Number, value string) error {
	switch number {
	case 3:
		key, value, err := mapEntry(value)
		switch key {
		case headerXFCC:
			q.forwarded = value
		case headerAuthorization:
			q.authorization = value
		}
		return err
	case 5:
		return take(&q.host, value)
	case 6:
		return take(&q.scheme, value)
	case 13:
		return fields(value, func(number protowire.Number, value string) error {
			if number == 1 {
				return q.header(value)
			}
			return nil
		})
	}
	return nil
}

// header reads a core.v3.HeaderValue of the header_map.
func (q *question) header(value string) error {
	var key, raw string
	err := fields(value, func(number protowire.Number, value string) error {
		switch number {
		case 1:
			return take(&key, value)
		case 3:
			raw = value
		}
		return nil
	})
	switch {
	case err != nil:
	case strings.EqualFold(key, headerXFCC):
		q.forwardedRaw = append(q.forwardedRaw, raw)
	case strings.EqualFold(key, headerAuthorization):
		q.authorizationRaw = append(q.authorizationRaw, raw)
	}
	return err
}

// mapEntry reads an entry of a map of strings.
func mapEntry(message string) (key, value string, err error) {
	err = fields(message, func(number protowire.Number, part string) error {
		switch number {
		case 1:
			return take(&key, part)
		case 2:
			return take(&value, part)
		}
		return nil
	})
	return key, value, err
}
