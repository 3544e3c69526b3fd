package authz

import (
	"math/bits"
	"sync"
)

// buffers is a mem.BufferPool that gives buffers as they were left. gRPC's own
// clears each one first, 16 KiB for every message of more than four, which then is
// written over.
type buffers struct {
	pools [maxBufferBits - minBufferBits + 1]sync.Pool // by size: powers of two
}

const minBufferBits, maxBufferBits = 8, 20

// Get implements mem.BufferPool.
func (p *buffers) Get(length int) *[]byte {
	size := max(minBufferBits, bits.Len(uint(max(1, length)-1)))
	if size > maxBufferBits { // more than maxMessage
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.pools[size-minBufferBits].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<size)
	return &b
}

// Put implements mem.BufferPool.
func (p *buffers) Put(b *[]byte) {
	size := bits.Len(uint(cap(*b))) - 1 // rounded down
	if size >= minBufferBits && size <= maxBufferBits {
		p.pools[size-minBufferBits].Put(b)
	}
}
