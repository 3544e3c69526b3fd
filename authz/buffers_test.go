package authz

import "testing"

func TestBuffers(t *testing.T) {
	t.Parallel()
	p := new(buffers)
	for _, length := range []int{0, 1, 255, 256, 257, 5000, 16 << 10, 1 << 20, 1<<20 + 1} {
		for range 2 { // made, and taken back
			b := p.Get(length)
			if len(*b) != length {
				t.Errorf("asked for %d bytes, got %d", length, len(*b))
			}
			*b = (*b)[:0] // gRPC gives back what it cut, too
			p.Put(b)
		}
	}
	// One that is no power of two is good for what is smaller only.
	odd := make([]byte, 300)
	p.Put(&odd)
	if b := p.Get(500); len(*b) != 500 {
		t.Errorf("asked for 500 bytes, got %d", len(*b))
	}
}
