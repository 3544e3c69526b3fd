package authz

import (
	"context"
	"log/slog"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hubgate/hubgate/provision"
)

// Gate decides. Admit always answers, counts and logs its answer, and may be
// called concurrently; *provision.Gate is one.
type Gate interface {
	Admit(context.Context, provision.Connection) provision.Decision
}

// checker is the Authorization service.
type checker struct {
	authv3.UnimplementedAuthorizationServer
	gate    Gate
	replies replies
	log     *slog.Logger
	metrics *metrics
	slots   chan struct{} // one per check in flight
}

// Check answers one check. It returns an error only for a check whose caller
// is no longer waiting.
func (c *checker) Check(ctx context.Context, req *authv3.CheckRequest) (resp *authv3.CheckResponse, err error) {
	if err := ctx.Err(); err != nil {
		c.metrics.dropped.Inc()
		return nil, status.FromContextError(err).Err()
	}
	defer func() {
		if p := recover(); p != nil {
			resp, err = c.panicked(ctx, req, p), nil
		}
	}()
	md, _ := metadata.FromIncomingContext(ctx)
	var conn provision.Connection
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		conn = connectionOf(req, md)
	default:
		// The Gate is told all the same: it counts and logs, which is cheap.
		conn = refusal(req, md, provision.Problem{
			Reason: provision.Overloaded,
			Detail: "as many checks are in flight as authz.max_in_flight allows",
		})
	}
	return c.replies.of(conn.Protocol, c.gate.Admit(ctx, conn)), nil
}

// panicked answers a check that hubgate failed at, outside of the Gate's own
// care: a fault, never an allow, with the ID that finds the stack in the log.
func (c *checker) panicked(ctx context.Context, req *authv3.CheckRequest, p any) *authv3.CheckResponse {
	d := provision.Decision{ID: uuid.Must(uuid.NewV7()).String(), Reason: provision.Internal}
	protocol := provision.TCP
	if req.GetAttributes().GetRequest().GetHttp() != nil {
		protocol = provision.HTTP
	}
	c.metrics.panics.Inc()
	c.log.ErrorContext(ctx, "check panicked",
		"decision", d.Reason.Outcome().String(), "reason", string(d.Reason), "decision_id", d.ID,
		"protocol", string(protocol), "panic", p, "stack", string(debug.Stack()))
	return c.replies.of(protocol, d)
}
