package link

import (
	"encoding/binary"
	"fmt"
)

// coder reads or writes the fields of one message. One list of fields serves
// both directions, so that they cannot disagree. After an error it does
// nothing more.
type coder struct {
	reading bool
	buf     []byte // what is left to read, or what was written so far
	err     error
}

// Append appends m's frame to b. A message that Decode would refuse is an
// error, and leaves b as it was.
func Append(b []byte, m Message) ([]byte, error) {
	c := coder{buf: append(b, 0, 0, 0, 0, byte(m.kind()))}
	m.fields(&c)
	body := len(c.buf) - len(b) - 4
	if c.err == nil && body > MaxFrame {
		c.err = ErrTooLong
	}
	if c.err != nil {
		return b, fmt.Errorf("encode %T: %w", m, c.err)
	}
	binary.BigEndian.PutUint32(c.buf[len(b):], uint32(body))
	return c.buf, nil
}

// Decode reads a frame without its length. The message keeps nothing of it.
func Decode(frame []byte) (Message, error) {
	if len(frame) == 0 {
		return nil, fmt.Errorf("empty: %w", ErrMalformed)
	}
	if len(frame) > MaxFrame {
		return nil, ErrTooLong
	}
	m := blank(kind(frame[0]))
	c := coder{reading: true, buf: frame[1:]}
	m.fields(&c)
	c.check(len(c.buf) == 0)
	if c.err != nil {
		return nil, fmt.Errorf("decode %T: %w", m, c.err)
	}
	return m, nil
}

func (c *coder) check(ok bool) {
	if !ok && c.err == nil {
		c.err = ErrMalformed
	}
}

// take gives the next n bytes to be read, nil after an error.
func (c *coder) take(n int) []byte {
	c.check(len(c.buf) >= n)
	if c.err != nil {
		return nil
	}
	b := c.buf[:n]
	c.buf = c.buf[n:]
	return b
}

func (c *coder) uint8(v *uint8) {
	if !c.reading {
		c.buf = append(c.buf, *v)
	} else if b := c.take(1); b != nil {
		*v = b[0]
	}
}

func (c *coder) uint16(v *uint16) {
	if !c.reading {
		c.buf = binary.BigEndian.AppendUint16(c.buf, *v)
	} else if b := c.take(2); b != nil {
		*v = binary.BigEndian.Uint16(b)
	}
}

func (c *coder) uint32(v *uint32) {
	if !c.reading {
		c.buf = binary.BigEndian.AppendUint32(c.buf, *v)
	} else if b := c.take(4); b != nil {
		*v = binary.BigEndian.Uint32(b)
	}
}

func (c *coder) uint64(v *uint64) {
	if !c.reading {
		c.buf = binary.BigEndian.AppendUint64(c.buf, *v)
	} else if b := c.take(8); b != nil {
		*v = binary.BigEndian.Uint64(b)
	}
}

func (c *coder) text(v *string) {
	n := uint16(min(len(*v), MaxText+1))
	c.uint16(&n)
	if n > MaxText && c.err == nil {
		c.err = ErrTooLong
	}
	if !c.reading {
		c.buf = append(c.buf, *v...)
	} else if b := c.take(int(n)); b != nil {
		*v = string(b)
	}
}

// rest64 is a list of integers up to the frame's end.
func (c *coder) rest64(v *[]uint64) {
	if !c.reading {
		for _, n := range *v {
			c.buf = binary.BigEndian.AppendUint64(c.buf, n)
		}
		return
	}
	c.check(len(c.buf)%8 == 0)
	for c.err == nil && len(c.buf) > 0 {
		*v = append(*v, binary.BigEndian.Uint64(c.take(8)))
	}
}

// rest is all bytes up to the frame's end.
func (c *coder) rest(v *[]byte) {
	if !c.reading {
		c.buf = append(c.buf, *v...)
	} else {
		*v = append(*v, c.take(len(c.buf))...)
	}
}
