package authz

import (
	"context"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"
)

// incoming is a call's context that knows its metadata. gRPC's own way to them,
// metadata.FromIncomingContext, copies all of them first.
type incoming struct {
	context.Context
	md metadata.MD
}

type incomingKey struct{}

// Value implements context.Context.
func (c *incoming) Value(key any) any {
	if key == (incomingKey{}) {
		return c.md
	}
	return c.Context.Value(key)
}

// withMetadata is a tap.ServerInHandle: gRPC calls it with what it read of a
// call's head. Nobody changes the metadata from then on.
func withMetadata(ctx context.Context, info *tap.Info) (context.Context, error) {
	return &incoming{ctx, info.Header}, nil
}

// metadataOf returns a call's metadata, which are not to be changed.
func metadataOf(ctx context.Context) metadata.MD {
	md, _ := ctx.Value(incomingKey{}).(metadata.MD)
	return md
}
