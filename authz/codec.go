package authz

import (
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
	// The one copy: the buffers are gRPC's.
	var message string
	if len(data) == 1 {
		message = string(data[0].ReadOnlyData())
	} else {
		message = string(data.Materialize())
	}
	return into.parse(message)
}
