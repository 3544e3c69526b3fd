// Package e2e holds the tests that drive hubgate through what stands around it
// in life: the real Envoy with the configuration that package envoy writes, a
// real redis-server, a real mosquitto, devices that speak HTTPS and MQTT over
// TLS with certificates of their own.
//
// TestStores runs every story on the embedded store and on Redis, against a
// hubgate wired as `hubgate serve` wires it but in the test's process, so that
// the race detector sees it and a test can ask what exactly was decided. The
// other tests run the real binary, for what only a process can show: kills,
// outages, reloads, files that it reads, bounds that replicas share, the demo.
package e2e
