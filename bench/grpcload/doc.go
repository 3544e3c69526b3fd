// Package grpcload asks a gRPC server the same few questions very often, and
// costs less than the server does: requests are encoded once, HTTP/2 frames are
// written and read by hand, and answers are only looked at closely now and then.
// With a stock gRPC client the generator would be the slower side, and what is
// measured would be the client.
//
// A [Conn] is one HTTP/2 connection without TLS, as Envoy keeps one per worker
// thread. [Conn.Closed] keeps a number of calls in flight, which tells what a
// call costs the server; [Conn.Open] sends them at fixed moments whether or not
// earlier ones are answered, which tells how long they take: a call's time runs
// from the moment at which it should have been sent, so that a server that
// stalls is charged for every call that had to wait (no coordinated omission).
package grpcload
