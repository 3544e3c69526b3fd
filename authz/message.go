package authz

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of a CheckResponse that hubgate writes, by message.
const (
	// envoy.service.auth.v3.CheckResponse
	responseStatus   = 1
	responseDenied   = 2
	responseOK       = 3
	responseMetadata = 4
	responseError    = 5
	// google.rpc.Status
	statusCode = 1
	// envoy.service.auth.v3.OkHttpResponse and DeniedHttpResponse
	responseHeaders = 2
	// envoy.service.auth.v3.OkHttpResponse
	okHeadersToRemove = 5
	// envoy.service.auth.v3.DeniedHttpResponse
	deniedStatus = 1
	deniedBody   = 3
	// envoy.type.v3.HttpStatus
	httpStatusCode = 1
	// envoy.config.core.v3.HeaderValueOption, HeaderValue
	optionHeader       = 1
	optionAppendAction = 3
	headerKey          = 1
	headerText         = 2
	// google.protobuf.Struct, an entry of its map, google.protobuf.Value
	structFields = 1
	entryKey     = 1
	entryValue   = 2
	valueString  = 3
)

// message is a protobuf message that is being written.
type message []byte

func (m message) text(number protowire.Number, value string) message {
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), value)
}

func (m message) number(number protowire.Number, value uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), value)
}

// nested writes a message within the message.
func (m message) nested(number protowire.Number, write func(message) message) message {
	m = protowire.AppendTag(m, number, protowire.BytesType)
	begin := len(m)
	m = write(append(m, 0)) // one byte for a length that is mostly short
	length := len(m) - begin - 1
	size := protowire.SizeVarint(uint64(length))
	if size > 1 {
		for range size - 1 {
			m = append(m, 0)
		}
		copy(m[begin+size:], m[begin+1:begin+1+length])
	}
	protowire.AppendVarint(m[:begin], uint64(length))
	return m
}

// header writes a HeaderValueOption that replaces whatever the device sent
// under that name. Both messages that hold headers hold them in the same field.
func (m message) header(key, value string) message {
	return m.nested(responseHeaders, func(m message) message {
		m = m.nested(optionHeader, func(m message) message { return m.text(headerKey, key).text(headerText, value) })
		return m.number(optionAppendAction, uint64(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	})
}

// entry writes an entry of a Struct.
func (m message) entry(key, value string) message {
	return m.nested(structFields, func(m message) message {
		return m.text(entryKey, key).nested(entryValue, func(m message) message { return m.text(valueString, value) })
	})
}
