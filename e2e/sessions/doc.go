// Package sessions holds the tests of what hubgate's library in Envoy is for:
// that a broker knows who is connected, that hubgate knows which connections
// are open, and that it can end them. They run the real Envoy with the library
// of the working tree, a real mosquitto, and hubgate on the embedded store and
// on Redis, wired as `hubgate serve` wires it but in the test's process, so
// that the race detector sees it.
//
// HUBGATE_SOAK=1 makes the loops long. BenchmarkModule compares an Envoy with
// the library to one without it; docs/performance.md has its figures.
package sessions
