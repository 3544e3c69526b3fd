package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

const (
	// minPause and maxPause bound the pause before another attempt, half of
	// which is random: a restarted hubgate is not met by all Envoys at once.
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
	// greetTimeout bounds dialing, and each step of the greeting.
	greetTimeout = 5 * time.Second
	// batchPause is the pause after a write: what comes meanwhile goes with the
	// next, so that many connections cost few writes. It is short, as a connection
	// that is held until it is alone waits for it.
	batchPause = time.Millisecond
	// activityInterval is the pause between two reports of activity.
	activityInterval = time.Minute
)

// ClientConfig says whom a Client speaks to, and for whom.
type ClientConfig struct {
	// Addresses of hubgate's replicas, each "host:port" or "unix:///path".
	// One at a time is connected to; the next is tried when it fails.
	Addresses []string
	// TLS is asked for each attempt to connect, so that files may change; nil
	// for none. It is not used on Unix sockets.
	TLS   func() (*tls.Config, error)
	Hello Hello // its Version is set by the Client
	Log   *slog.Logger
}

// Client is the library's end of the link. It tells hubgate what is open and
// passes hubgate's orders on, as long as Run runs. Its methods never block.
type Client struct {
	config ClientConfig
	table  *table
}

// NewClient checks the configuration; nothing is dialed until Run.
func NewClient(config ClientConfig) (*Client, error) {
	if len(config.Addresses) == 0 {
		return nil, errors.New("no address")
	}
	config.Hello.Version = Version
	if _, err := Append(nil, &config.Hello); err != nil {
		return nil, err
	}
	return &Client{config: config, table: newTable()}, nil
}

// Open adds an open connection. Its orders come to control until it is closed.
func (c *Client) Open(open Open, control Control) *Session {
	return c.table.open(open, control)
}

// Down is for how long there has been no link, 0 while there is one.
func (c *Client) Down() time.Duration { return c.table.down() }

// Run keeps a connection to hubgate until the context ends, and returns then.
func (c *Client) Run(ctx context.Context) {
	pause := minPause
	for attempt := 0; ; attempt++ {
		address := c.config.Addresses[attempt%len(c.config.Addresses)]
		var greeted bool
		err := guard(func() (err error) {
			greeted, err = c.session(ctx, address)
			return err
		})
		if ctx.Err() != nil {
			return
		}
		if greeted {
			pause = minPause
		}
		c.config.Log.Warn("no link to hubgate", "address", address, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, maxPause)
	}
}

// session is one connection, from dialing to its end. It reports whether
// hubgate has answered the greeting.
func (c *Client) session(ctx context.Context, address string) (greeted bool, err error) {
	raw, err := c.dial(ctx, address)
	if err != nil {
		return false, err
	}
	conn := NewConn(raw, greetTimeout)
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	welcome, err := conn.greet(&c.config.Hello)
	if err != nil {
		return false, fmt.Errorf("greeting: %w", err)
	}
	c.config.Log.Info("linked to hubgate", "address", address)
	c.table.link()
	defer c.table.unlink()
	stopped := make(chan struct{})
	var readErr error
	go func() {
		defer close(stopped)
		readErr = guard(func() error { return c.read(conn) })
	}()
	writeErr := c.write(conn, welcome.Heartbeat, stopped)
	_ = conn.Close()
	<-stopped // no order of this connection may come during the next one
	return true, cmp.Or(writeErr, readErr)
}

// guard turns a panic into an error: it would end Envoy, with every connection
// there is.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	if c.config.TLS == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	config, err := c.config.TLS()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
}

// read passes orders on until the connection ends.
func (c *Client) read(conn *Conn) error {
	for {
		m, err := conn.Read()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *End:
			if !c.table.end(m) {
				return fmt.Errorf("more than %d ends at once: %w", maxEnds, ErrTooLong)
			}
		case *Release:
			c.table.release(m)
		case *Pong:
		default:
			return fmt.Errorf("%T: %w", m, ErrUnexpected)
		}
	}
}

// write sends what there is to say until the connection ends, or stopped is
// closed.
func (c *Client) write(conn *Conn, heartbeat time.Duration, stopped <-chan struct{}) error {
	ping := time.NewTicker(heartbeat)
	defer ping.Stop()
	activity := time.NewTicker(activityInterval)
	defer activity.Stop()
	for {
		var messages []Message
		select {
		case <-stopped:
			return nil
		case <-c.table.wake:
			messages = c.table.take()
		case <-activity.C:
			messages = c.table.activity()
		case <-ping.C:
			messages = []Message{&Ping{}}
		}
		if err := conn.Write(messages...); err != nil {
			return err
		}
		time.Sleep(batchPause)
	}
}
