package authz

import (
	"unsafe"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of the other services
	"google.golang.org/grpc/mem"
)

// reply is an encoded CheckResponse.
type reply []byte

// codec reads questions and writes replies, which need no generated types, and
// leaves what the other services say to gRPC's own codec.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(reply); ok {
		return mem.BufferSlice{mem.SliceBuffer(r)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*question)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if data.Len() == 0 {
		return nil
	}
	// The question is read where it is, which spares a copy of some kilobytes.
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	into.buffer = buffer
	message := buffer.ReadOnlyData()
	return into.parse(unsafe.String(&message[0], len(message))) //nolint:gosec // it lives as long as the check
}
