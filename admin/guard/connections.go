package guard

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Listener bounds the connections of a listener. Where there are too many, a
// stranger's makes room, one on which no token was shown yet that is known: the
// oldest of the address that has most of them. So whoever opens many and says
// little keeps out itself.
type Listener struct {
	net.Listener
	most int

	mu        sync.Mutex
	strangers []*connection // in the order in which they came
	known     int
}

// Listen makes a Listener.
func Listen(l net.Listener, most int) *Listener { return &Listener{Listener: l, most: most} }

// connection is one of a Listener's.
type connection struct {
	net.Conn
	of     *Listener
	source string
	known  atomic.Bool
	closed sync.Once
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: accepted, of: l, source: sourceOf(accepted.RemoteAddr().String())}
		if l.take(c) {
			return c, nil
		}
		_ = accepted.Close() // all others are in use
	}
}

func (l *Listener) take(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strangers = append(l.strangers, c)
	if len(l.strangers)+l.known <= l.most {
		return true
	}
	i := l.crowd()
	out := l.strangers[i]
	l.strangers = slices.Delete(l.strangers, i, i+1)
	if out == c {
		return false
	}
	_ = out.Conn.Close()
	return true
}

// crowd is the oldest stranger of the address that has most of them.
func (l *Listener) crowd() int {
	count := make(map[string]int)
	most := 0
	for _, c := range l.strangers {
		count[c.source]++
		most = max(most, count[c.source])
	}
	return slices.IndexFunc(l.strangers, func(c *connection) bool { return count[c.source] == most })
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.closed.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		if c.known.Load() {
			c.of.known--
		} else if i := slices.Index(c.of.strangers, c); i >= 0 {
			c.of.strangers = slices.Delete(c.of.strangers, i, i+1)
		}
	})
	return c.Conn.Close()
}

type connectionKey struct{}

// Context is the http.Server's ConnContext: it lets a Guard say on which
// connection it was shown a token.
func (l *Listener) Context(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// know takes a request's connection for that of somebody who is known.
func know(ctx context.Context) {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok || c.known.Load() {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if i := slices.Index(c.of.strangers, c); i >= 0 { // else it is closed, or known by now
		c.of.strangers = slices.Delete(c.of.strangers, i, i+1)
		c.of.known++
		c.known.Store(true)
	}
}

// sourceOf is the address that is counted: of IPv6 the /64, as one host has all
// of that.
func sourceOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	addr := at.Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}
