package grpcload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

const (
	frameHeader = 9
	maxFrame    = 16384 // what HTTP/2 lets a sender assume (RFC 9113, 4.2)
	// window is what the server may send before we let it send more.
	window = 1 << 30
	// defaultSample is how many answers go by for one that is judged.
	defaultSample = 256
)

// Conn is one connection to a server. It serves one load at a time.
type Conn struct {
	// Sample is how many answers go by for one that accept judges. Dial sets it
	// to 256, as a load is to cost less than what it is for.
	Sample uint32

	net    net.Conn
	out    *bufio.Writer
	in     *bufio.Reader
	calls  []encoded
	accept func(message []byte) error

	mu       sync.Mutex // of what follows, and of out
	nextID   uint32
	sendLeft int64 // connection window towards the server
	perCall  int64 // initial window of a stream towards the server
	changed  *sync.Cond
	failed   error

	received int64 // bytes of data not yet given back to the server
	trailers []byte
	next     int // call to send next
}

// Dial connects and prepares the requests, which are sent in turn, over and
// over. The method is that of the URL: /package.Service/Method. accept judges
// the message of some answers; its error ends a load.
func Dial(ctx context.Context, address, method string, requests []Request, accept func(message []byte) error) (*Conn, error) {
	if len(requests) == 0 {
		return nil, errors.New("grpcload: nothing to ask")
	}
	var d net.Dialer
	n, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		net: n, out: bufio.NewWriterSize(n, 256<<10), in: bufio.NewReaderSize(n, 256<<10), accept: accept,
		Sample: defaultSample, nextID: 1, sendLeft: 65535, perCall: 65535,
	}
	c.changed = sync.NewCond(&c.mu)
	if err := c.prepare(method, requests); err != nil {
		_ = n.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) prepare(method string, requests []Request) error {
	e := newEncoder(method)
	first := e.headers(requests[0]) // fills the table
	for _, r := range requests {
		call, err := e.request(r)
		if err != nil {
			return err
		}
		c.calls = append(c.calls, call)
	}
	_, _ = c.out.WriteString(http2.ClientPreface)
	f := http2.NewFramer(c.out, nil)
	_ = f.WriteSettings(
		// Without a dynamic table the trailers of every answer look the same.
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: window},
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
	)
	_ = f.WriteWindowUpdate(0, window)
	c.calls = append(c.calls, encoded{headers: first, data: c.calls[0].data})
	c.write(len(c.calls) - 1)
	c.calls = c.calls[:len(c.calls)-1]
	if err := c.out.Flush(); err != nil {
		return err
	}
	// The first call is answered before a load begins.
	done := false
	for !done {
		err := c.read(&calls{ended: func(uint32) { done = true }})
		if err != nil {
			return err
		}
	}
	return nil
}

// Questions is how many requests the connection sends in turn.
func (c *Conn) Questions() int { return len(c.calls) }

// Close hangs up.
func (c *Conn) Close() error { return c.net.Close() }

// write writes one call and returns its stream. The lock is held, or the
// connection is not shared yet.
func (c *Conn) write(call int) uint32 {
	id := c.nextID
	c.nextID += 2
	e := &c.calls[call]
	c.frames(http2.FrameHeaders, http2.FrameContinuation, http2.FlagHeadersEndHeaders, 0, id, e.headers)
	c.frames(http2.FrameData, http2.FrameData, http2.FlagDataEndStream, 0, id, e.data)
	c.sendLeft -= int64(len(e.data))
	return id
}

// reset gives a call up. The lock is held.
func (c *Conn) reset(id uint32) {
	code := binary.BigEndian.AppendUint32(nil, uint32(http2.ErrCodeCancel))
	c.frames(http2.FrameRSTStream, 0, 0, 0, id, code)
}

// frames writes a payload as one frame, or as several if it is long; last is
// the flag of the last one.
func (c *Conn) frames(first, others http2.FrameType, last, flags http2.Flags, id uint32, payload []byte) {
	for t := first; ; t = others {
		part := payload[:min(len(payload), maxFrame)]
		payload = payload[len(part):]
		f := flags
		if len(payload) == 0 {
			f |= last
		}
		var h [frameHeader]byte
		h[0], h[1], h[2] = byte(len(part)>>16), byte(len(part)>>8), byte(len(part))
		h[3], h[4] = byte(t), byte(f)
		binary.BigEndian.PutUint32(h[5:], id)
		_, _ = c.out.Write(h[:])
		_, _ = c.out.Write(part) // Flush reports
		if len(payload) == 0 {
			return
		}
	}
}

// calls is told what becomes of calls.
type calls struct {
	// ended is told of every call that was answered well.
	ended func(id uint32)
	// answer, if there is one, is told every message; failed is told of calls
	// that failed. Without it a call that fails ends the load.
	answer func(id uint32, message []byte)
	failed func(id uint32)
}

// read reads one frame and answers what has to be answered.
func (c *Conn) read(of *calls) error {
	h, err := c.in.Peek(frameHeader)
	if err != nil {
		return fmt.Errorf("grpcload: %w", err)
	}
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags, id := http2.FrameType(h[3]), http2.Flags(h[4]), binary.BigEndian.Uint32(h[5:])
	// A read that is cut off leaves the frame where it is.
	frame, err := c.in.Peek(frameHeader + length)
	if err != nil {
		return fmt.Errorf("grpcload: %w", err)
	}
	payload := frame[frameHeader:]
	defer func() { _, _ = c.in.Discard(len(frame)) }()
	switch kind {
	case http2.FrameData:
		c.received += int64(length)
		if of.answer != nil && len(payload) >= 5 {
			of.answer(id, payload[5:])
		} else if id/2%c.Sample == 0 && len(payload) >= 5 {
			if err := c.accept(payload[5:]); err != nil {
				return fmt.Errorf("grpcload: an answer is not as it should be: %w", err)
			}
		}
		if c.received > window/2 {
			return c.giveBack()
		}
	case http2.FrameHeaders:
		if flags.Has(http2.FlagHeadersEndStream) {
			switch err := c.trailer(payload); {
			case err == nil:
				of.ended(id)
			case of.failed == nil:
				return err
			default:
				of.failed(id)
			}
		}
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			return c.settings(payload)
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			return c.answer(func() { c.frames(http2.FramePing, 0, 0, http2.FlagPingAck, 0, payload) })
		}
	case http2.FrameWindowUpdate:
		if id == 0 {
			c.mu.Lock()
			c.sendLeft += int64(binary.BigEndian.Uint32(payload) & (1<<31 - 1))
			c.mu.Unlock()
			c.changed.Broadcast()
		}
	case http2.FrameRSTStream:
		if of.failed != nil {
			of.failed(id)
			return nil
		}
		return fmt.Errorf("grpcload: the server reset a call: %v", http2.ErrCode(binary.BigEndian.Uint32(payload)))
	case http2.FrameGoAway:
		return fmt.Errorf("grpcload: the server hung up: %v", http2.ErrCode(binary.BigEndian.Uint32(payload[4:])))
	}
	return nil
}

// trailer checks the status of a call.
func (c *Conn) trailer(block []byte) error {
	if bytes.Equal(block, c.trailers) {
		return nil
	}
	fields, err := hpack.NewDecoder(0, nil).DecodeFull(block)
	if err != nil {
		return fmt.Errorf("grpcload: trailers: %w", err)
	}
	status, text := "", ""
	for _, f := range fields {
		switch f.Name {
		case "grpc-status":
			status = f.Value
		case "grpc-message":
			text = f.Value
		}
	}
	if status != "0" {
		return fmt.Errorf("grpcload: a call failed with status %s (%s is none) %s", status, codes.OK, text)
	}
	c.trailers = bytes.Clone(block)
	return nil
}

func (c *Conn) settings(payload []byte) error {
	for ; len(payload) >= 6; payload = payload[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(payload)) == http2.SettingInitialWindowSize {
			c.mu.Lock()
			c.perCall = int64(binary.BigEndian.Uint32(payload[2:]))
			c.mu.Unlock()
		}
	}
	return c.answer(func() { c.frames(http2.FrameSettings, 0, 0, http2.FlagSettingsAck, 0, nil) })
}

func (c *Conn) giveBack() error {
	var more [4]byte
	binary.BigEndian.PutUint32(more[:], uint32(c.received))
	c.received = 0
	return c.answer(func() { c.frames(http2.FrameWindowUpdate, 0, 0, 0, 0, more[:]) })
}

// answer writes what is not a call.
func (c *Conn) answer(write func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	write()
	return c.out.Flush()
}

// fail ends a load.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
	c.changed.Broadcast()
}

// aLongTimeAgo makes a blocked read end.
var aLongTimeAgo = time.Unix(1, 0)

// readWhile reads until the context ends.
func (c *Conn) readWhile(ctx context.Context, of *calls) error {
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetReadDeadline(aLongTimeAgo) })
	defer func() {
		stop()
		_ = c.net.SetReadDeadline(time.Time{})
	}()
	for {
		if err := c.read(of); err != nil {
			if ctx.Err() != nil && !errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
