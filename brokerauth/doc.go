// Package brokerauth answers MQTT brokers that ask over HTTP what a client may
// do, each in its own words: mosquitto (with mosquitto-go-auth), EMQX and
// VerneMQ.
//
// It exists because a device's message filters are hubgate's, while the topics
// are the broker's. What a client is allowed is decided by pure functions
// (decide.go); around them, an asker gets what they need from the Gate's caches.
//
// A device is known to the broker by the user name that hubgate's library in
// Envoy writes into its CONNECT. That name is no proof, as anybody can compute
// it. So a device connects only while it has an open connection through an Envoy
// that has the library; whoever reaches the broker past Envoy, and knows the
// name of a device that is connected, is for the network to keep out.
//
// Whatever goes wrong is a refusal in the words of the broker that asked.
package brokerauth
