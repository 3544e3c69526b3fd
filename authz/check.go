package authz

import (
	"context"
	"log/slog"
	"runtime/debug"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/hubgate/hubgate/provision"
)

// Gate decides. Admit always answers, counts and logs its answer, and may be
// called concurrently; *provision.Gate is one.
type Gate interface {
	Admit(context.Context, provision.Connection) provision.Decision
}

// checker is the Authorization service. Its messages are read and written by
// codec, so it is not registered as the generated service is.
type checker struct {
	gate    Gate
	replies replies
	log     *slog.Logger
	metrics *metrics
	slots   chan struct{} // one per check in flight
}

// service describes envoy.service.auth.v3.Authorization to gRPC.
func (c *checker) service() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: authv3.Authorization_ServiceDesc.ServiceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Check",
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				t := new(translation)
				defer t.q.free()
				if err := decode(&t.q); err != nil {
					return nil, err
				}
				return c.check(ctx, t)
			},
		}},
		Metadata: authv3.Authorization_ServiceDesc.Metadata,
	}
}

// check answers one check. It returns an error only for a check whose caller
// is no longer waiting.
func (c *checker) check(ctx context.Context, t *translation) (r reply, err error) {
	if err := ctx.Err(); err != nil {
		c.metrics.dropped.Inc()
		return nil, status.FromContextError(err).Err()
	}
	defer func() {
		if p := recover(); p != nil {
			r, err = c.panicked(ctx, &t.q, p), nil
		}
	}()
	t.md = metadataOf(ctx)
	var conn provision.Connection
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		conn = t.connection()
	default:
		// The Gate is told all the same: it counts and logs, which is cheap.
		conn = t.refusal(provision.Problem{
			Reason: provision.Overloaded,
			Detail: "as many checks are in flight as authz.max_in_flight allows",
		})
	}
	return c.replies.of(conn.Protocol, conn.TLS, c.gate.Admit(ctx, conn)), nil
}

// panicked answers a check that hubgate failed at, outside of the Gate's own
// care: a fault, never an allow, with the ID that finds the stack in the log.
func (c *checker) panicked(ctx context.Context, q *question, p any) reply {
	d := provision.Decision{ID: uuid.Must(uuid.NewV7()).String(), Reason: provision.Internal}
	c.metrics.panics.Inc()
	c.log.ErrorContext(ctx, "check panicked",
		"decision", d.Reason.Outcome().String(), "reason", string(d.Reason), "decision_id", d.ID,
		"protocol", string(q.protocol()), "panic", p, "stack", string(debug.Stack()))
	return c.replies.of(q.protocol(), true, d)
}
