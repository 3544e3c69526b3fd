package main

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// maxHeaderList lets a chain through, as hubgate does.
const maxHeaderList = 256 << 10

// stock is what one gets by following grpc-go's documentation: the generated
// types, and a reply that allows.
type stock struct {
	authv3.UnimplementedAuthorizationServer
}

// Check allows.
func (stock) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &statuspb.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

func serveStock(ctx context.Context, l net.Listener) error {
	s := grpc.NewServer(grpc.MaxHeaderListSize(maxHeaderList))
	authv3.RegisterAuthorizationServer(s, stock{})
	return serveGRPC(ctx, s, l)
}

// serveRaw is the floor: it decodes nothing and answers with bytes that were
// encoded before, with stream workers and a larger heap target. before, if there
// is one, is done before each answer.
func serveRaw(ctx context.Context, l net.Listener, before func(context.Context) error) error {
	debug.SetGCPercent(400)
	reply, err := proto.Marshal(&authv3.CheckResponse{
		Status:       &statuspb.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	})
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.MaxHeaderListSize(maxHeaderList), grpc.NumStreamWorkers(64), grpc.ForceServerCodecV2(rawCodec{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Check",
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var in rawMessage
				err := decode(&in)
				if err == nil && before != nil {
					err = before(ctx)
				}
				return rawMessage(reply), err
			},
		}},
	}, nil)
	return serveGRPC(ctx, s, l)
}

func serveGRPC(ctx context.Context, s *grpc.Server, l net.Listener) error {
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(l)
}

type rawMessage []byte

// rawCodec leaves messages as they are.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

// Marshal implements encoding.CodecV2.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(rawMessage)
	if !ok {
		return nil, fmt.Errorf("%T is no raw message", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(m)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (rawCodec) Unmarshal(data mem.BufferSlice, _ any) error {
	_ = data.Len()
	return nil
}

// Name implements encoding.CodecV2.
func (rawCodec) Name() string { return "proto" }
