// Package console holds the tests that use hubgate's web page as a person does:
// a real headless Chromium, the real `hubgate serve`, and the real Envoy with
// hubgate's library, through which devices connect. There is one of each; every
// story has a hub of its own.
//
// With -update-screenshots the stories renew the pictures in docs/images.
package console
