package grpcload

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// Request is one call: what is asked, and the metadata that goes with it.
type Request struct {
	Message  proto.Message
	Metadata [][2]string
	// Timeout is how long the caller waits, as the server is told. 0: 10 seconds.
	Timeout time.Duration
}

// encoded is a call as it goes over one connection.
type encoded struct {
	headers []byte // HPACK block
	data    []byte // gRPC message with its prefix
}

// encoder encodes calls for one connection. Headers that are the same in each
// call are in the dynamic table after the first; metadata never is, so that the
// table stays as it is and a block can be sent any number of times.
type encoder struct {
	block bytes.Buffer
	hpack *hpack.Encoder
	path  string
}

func newEncoder(method string) *encoder {
	e := &encoder{path: method}
	e.hpack = hpack.NewEncoder(&e.block)
	return e
}

func (e *encoder) headers(r Request) []byte {
	e.block.Reset()
	timeout := cmp.Or(r.Timeout, 10*time.Second).Milliseconds()
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", e.path}, {":authority", "hubgate"},
		{"te", "trailers"}, {"content-type", "application/grpc"}, {"grpc-timeout", fmt.Sprintf("%dm", timeout)},
	} {
		_ = e.hpack.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}) // to memory
	}
	for _, h := range r.Metadata {
		_ = e.hpack.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
	}
	return bytes.Clone(e.block.Bytes())
}

func (e *encoder) request(r Request) (encoded, error) {
	message, err := proto.Marshal(r.Message)
	if err != nil {
		return encoded{}, fmt.Errorf("encode the request: %w", err)
	}
	data := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(data[1:], uint32(len(message)))
	return encoded{headers: e.headers(r), data: append(data, message...)}, nil
}
