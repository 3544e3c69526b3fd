package link

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Conn carries messages over a connection. One goroutine may read while
// another writes; Close may come from any.
type Conn struct {
	conn    net.Conn
	reader  *bufio.Reader
	timeout atomic.Int64 // a time.Duration
	frame   []byte       // what was read last
	out     []byte       // what was written last
}

// NewConn takes over a connection whose TLS handshake, if any, is still to
// come or done. Until SetTimeout, each Read and Write may take so long.
func NewConn(conn net.Conn, timeout time.Duration) *Conn {
	c := &Conn{conn: conn, reader: bufio.NewReader(conn)}
	c.SetTimeout(timeout)
	return c
}

// SetTimeout bounds each Read and each Write that begins from now on.
func (c *Conn) SetTimeout(d time.Duration) { c.timeout.Store(int64(d)) }

// Close ends the connection, and what reads from it or writes to it.
func (c *Conn) Close() error { return c.conn.Close() }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Read gives the next message that this version knows. Any error is final:
// where the next frame begins is then unknown.
func (c *Conn) Read() (Message, error) {
	for {
		if err := c.conn.SetReadDeadline(c.deadline()); err != nil {
			return nil, err
		}
		m, err := c.read()
		if err != nil {
			return nil, err
		}
		if _, skip := m.(*Unknown); !skip {
			return m, nil
		}
	}
}

func (c *Conn) read() (Message, error) {
	var length [4]byte
	if _, err := io.ReadFull(c.reader, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes: %w", n, ErrTooLong)
	}
	if cap(c.frame) < int(n) {
		c.frame = make([]byte, n)
	}
	c.frame = c.frame[:n]
	if _, err := io.ReadFull(c.reader, c.frame); err != nil {
		return nil, fmt.Errorf("inside a frame: %w", err)
	}
	return Decode(c.frame)
}

// Write sends messages in as few writes as possible. Any error is final.
func (c *Conn) Write(messages ...Message) error {
	c.out = c.out[:0]
	for _, m := range messages {
		var err error
		if c.out, err = Append(c.out, m); err != nil {
			return err
		}
		if len(c.out) >= MaxFrame {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.conn.SetWriteDeadline(c.deadline()); err != nil {
		return err
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

func (c *Conn) deadline() time.Time {
	return time.Now().Add(time.Duration(c.timeout.Load()))
}

// Accept is hubgate's side of the greeting: it reads Hello and answers with a
// Welcome. From then on silence over Missed heartbeats is an error of Read.
func (c *Conn) Accept(heartbeat time.Duration) (*Hello, error) {
	m, err := c.Read()
	if err != nil {
		return nil, err
	}
	hello, ok := m.(*Hello)
	if !ok {
		return nil, fmt.Errorf("%T instead of a Hello: %w", m, ErrUnexpected)
	}
	welcome := &Welcome{Version: min(Version, hello.Version), Heartbeat: heartbeat}
	if err := c.Write(welcome); err != nil {
		return nil, err
	}
	c.SetTimeout(Missed * heartbeat)
	return hello, nil
}

// greet is the library's side of it.
func (c *Conn) greet(hello *Hello) (*Welcome, error) {
	if err := c.Write(hello); err != nil {
		return nil, err
	}
	m, err := c.Read()
	if err != nil {
		return nil, err
	}
	welcome, ok := m.(*Welcome)
	if !ok {
		return nil, fmt.Errorf("%T instead of a Welcome: %w", m, ErrUnexpected)
	}
	if welcome.Version > hello.Version {
		return nil, fmt.Errorf("version %d, not over %d: %w", welcome.Version, hello.Version, ErrVersion)
	}
	c.SetTimeout(Missed * welcome.Heartbeat)
	return welcome, nil
}
