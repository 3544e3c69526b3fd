package iot

import "net/http"

// What the SDK can ask for and hubgate has not. Each is answered with 501 and a
// sentence, so that nobody looks for what he did wrong.
const (
	noRoutes  = "hubgate carries no messages, so it has no routes: subscribe at the broker behind Envoy instead"
	noNets    = "hubgate has no networks: devices connect through Envoy, over MQTT or HTTPS"
	noTwins   = "hubgate has no Cloud Twins"
	noMetrics = "hubgate keeps no time series: let a Prometheus read its /metrics instead"
	noSigning = "hubgate signs no certificates: give the device one of its own CA, and it is let in with that"
)

// unsupported are the paths under a region, each with all that is below it.
var unsupported = map[string]string{
	"/routes":   noRoutes,
	"/networks": noNets,
	"/twins":    noTwins,
}

func not(text string) endpoint {
	return func(*http.Request) (any, error) { return nil, notImplemented(text) }
}
