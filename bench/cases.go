package main

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// benchCase is one row of what hubgate is to be measured by.
type benchCase struct {
	name, what string
	run        func(ctx context.Context, w *world, r *result) error
}

// cases are all of them, in the order of the table.
var cases = []benchCase{
	{"known-http", "a known device's HTTP request", closedCase{
		requests: (*world).httpChecks, allowed: true, mostCPU: 0.5, mostAllocs: 10,
	}.run},
	{"known-mqtt", "a known device's MQTT connection, with its session", closedCase{
		requests: (*world).mqttChecks, allowed: true, mostCPU: 1.5,
	}.run},
	{"foreign-again", "a chain of another vendor, seen before", closedCase{
		requests: (*world).foreignChecks, mostCPU: 0.6,
	}.run},
	{"foreign-first", "a chain of an impostor of the hub's CA, never seen before", foreignFirst},
	{"hostile", "the chain that takes longest to refuse, each never seen before", hostile},
	{"first-redis", "first connections of devices, on Redis", firstOnRedis},
	{"first-bolt", "what first connections take of the embedded store", firstOnBolt},
	{"envoy-https", "new HTTPS connections through Envoy, one request each", httpsConnections},
	{"envoy-http", "HTTP requests through Envoy on connections that stay", httpRequests},
	{"envoy-mqtt", "new MQTT connections through Envoy", mqttConnections},
	{"overload", "five times what hubgate can take, some of it devices that were never there", overload},
	{"scale", "known devices of a large store beside those of a small one", scale},
	{"reload", "known devices while the configuration is reloaded again and again", reloads},
	{"start-bolt", "from the start until ready", startOn("bolt")},
	{"start-redis", "from the start until ready", startOn("redis")},
}

// chosen are the cases whose name contains one of the words, separated by
// commas.
func chosen(words string) ([]benchCase, error) {
	var found []benchCase
	for _, c := range cases {
		if slices.ContainsFunc(strings.Split(words, ","), func(w string) bool { return strings.Contains(c.name, w) }) {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no such case: see -list")
	}
	return found, nil
}
