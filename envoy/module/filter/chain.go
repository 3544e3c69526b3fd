package filter

import "encoding/base64"

// Bounds of the chain that is passed on.
const (
	MaxCertificates = 10
	MaxChain        = 32 << 10 // bytes of DER
)

// Truncated is passed on instead of a chain over a bound. hubgate then goes by
// the leaf, the fingerprints of the rest, and the intermediates that it knows.
const Truncated = ";truncated"

// EncodeChain is the chain as hubgate reads it: DER in base64, separated by
// commas, in the order in which it came.
func EncodeChain(certificates [][]byte) []byte {
	size := 0
	for _, der := range certificates {
		size += len(der)
	}
	if len(certificates) > MaxCertificates || size > MaxChain {
		return []byte(Truncated)
	}
	out := make([]byte, 0, size/3*4+5*len(certificates))
	for i, der := range certificates {
		if i > 0 {
			out = append(out, ',')
		}
		out = base64.StdEncoding.AppendEncode(out, der)
	}
	return out
}
