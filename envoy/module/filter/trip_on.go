//go:build hubgate_trip

package filter

import "bytes"

// trip panics at the client ID "trip", so that a test can see what a mistake
// in a hook does to Envoy.
func trip(packet []byte) {
	if bytes.HasSuffix(packet, []byte("\x00\x04trip")) {
		panic("tripped on purpose")
	}
}
