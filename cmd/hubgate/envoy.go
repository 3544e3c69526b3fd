package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/envoy"
)

func newEnvoy(std streams) *cobra.Command {
	return newGroup("envoy", "Configure and drain the Envoy in front of hubgate", newEnvoyConfig(std), newEnvoyDrain(std))
}

// envoyFlags are the flags of envoy config, on their way into envoy.Options.
type envoyFlags struct {
	options         envoy.Options
	https           envoy.HTTPS
	mqtt            envoy.MQTT
	module          envoy.Module
	noHTTPS, noMQTT bool
	noModule        bool
	certs, keys     []string
	tls             envoy.ClientTLS
	file            string
	force           bool
}

func newEnvoyConfig(std streams) *cobra.Command {
	var f envoyFlags
	c := &cobra.Command{
		Use:   "config",
		Short: "Print a complete Envoy configuration for HTTPS and MQTT",
		Long: `Print a complete bootstrap file for Envoy 1.40 or later, for devices that speak
HTTPS, MQTT or both. Files are read by Envoy alone, when it starts. An address
is host:port or unix:///path.

Envoy loads hubgate's library (make module builds libhubgate.so) from the
directory that ENVOY_DYNAMIC_MODULES_SEARCH_PATH names, or from --module-library.
With it hubgate sees whole chains over MQTT, brokers learn who is connected, and
connections can be ended. --no-module does without.`,
		Example: `  hubgate envoy config --domain iot.example.com --cert tls.crt --key tls.key > envoy.yaml
  hubgate envoy config --no-https --mqtt-hub factory --mqtt-broker broker:1883 -o envoy.yaml
  envoy --mode validate -c envoy.yaml`,
		Args: args(),
		RunE: func(*cobra.Command, []string) error { return f.run(std) },
	}
	f.bind(c)
	return c
}

func (f *envoyFlags) bind(c *cobra.Command) {
	flags, o, h, m, l := c.Flags(), &f.options, &f.https, &f.mqtt, &f.module
	flags.SortFlags = false
	flags.StringVarP(&f.file, "output", "o", "", "write into this file instead of standard output")
	flags.BoolVar(&f.force, "force", false, "replace the file if it is there")
	flags.StringVar(&o.Domain, "domain", "", "DNS domain of the hubs, as in hubgate's configuration")
	flags.StringArrayVar(&f.certs, "cert", []string{envoy.DefaultCertificate}, "certificate chain that devices see, PEM; may be repeated")
	flags.StringArrayVar(&f.keys, "key", []string{envoy.DefaultKey}, "its private key; once for each --cert, in their order")
	flags.StringArrayVar(&o.TicketKeys, "ticket-key", nil, "80 random bytes, shared by all Envoys, to resume TLS sessions; may be repeated")

	flags.StringArrayVar(&o.Hubgate.Addresses, "hubgate", []string{envoy.DefaultHubgate}, "address of hubgate (authz.listen); may be repeated")
	flags.StringVar(&f.tls.CA, "hubgate-ca", "", "CA of hubgate's certificate, PEM; switches TLS on")
	flags.StringVar(&f.tls.Client.Certificate, "hubgate-cert", "", "Envoy's own certificate towards hubgate, PEM")
	flags.StringVar(&f.tls.Client.Key, "hubgate-key", "", "its private key")
	flags.StringVar(&f.tls.ServerName, "hubgate-name", "", "name in hubgate's certificate (default: host of the first address)")
	flags.DurationVar(&o.Hubgate.CheckTimeout, "check-timeout", envoy.DefaultCheckTimeout, "how long a device waits for a decision")

	flags.BoolVar(&f.noHTTPS, "no-https", false, "no HTTPS listener")
	flags.StringVar(&h.Listen, "https-listen", envoy.DefaultHTTPSListen, "address of the HTTPS listener")
	flags.StringArrayVar(&h.Backends, "https-backend", []string{envoy.DefaultBackend}, "where admitted requests go; may be repeated")
	flags.BoolVar(&h.BackendHTTP2, "https-backend-http2", false, "speak HTTP/2 to the backends")
	flags.StringVar(&h.Hub, "https-hub", "", "hub of all devices of this listener (default: by SNI or issuer)")
	flags.BoolVar(&h.OnlyDomain, "https-only-domain", false, "answer 404 to requests for hosts outside --domain")
	flags.BoolVar(&h.ProxyProtocol, "https-proxy-protocol", false, "demand a PROXY header")
	flags.Uint32Var(&h.TrustedHops, "https-trusted-hops", 0, "proxies in front that append to X-Forwarded-For")
	flags.Uint32Var(&h.MaxConnections, "https-max-connections", 0, "bound of this listener alone (default: none)")
	flags.DurationVar(&h.IdleTimeout, "https-idle-timeout", envoy.DefaultIdleTimeout, "end a connection without requests")
	flags.DurationVar(&h.StreamIdleTimeout, "https-stream-idle-timeout", envoy.DefaultStreamIdleTimeout, "end a request on which nothing moves")

	flags.StringVar(&h.Insecure, "insecure-http", "", "listen at this address too, WITHOUT TLS: devices that are allowed to get in by their secrets, which that network can read")

	flags.BoolVar(&f.noMQTT, "no-mqtt", false, "no MQTT listener")
	flags.StringVar(&m.Listen, "mqtt-listen", envoy.DefaultMQTTListen, "address of the MQTT listener")
	flags.StringArrayVar(&m.Brokers, "mqtt-broker", []string{envoy.DefaultBroker}, "where admitted connections go; may be repeated")
	flags.StringVar(&m.Hub, "mqtt-hub", "", "hub of all devices of this listener (default: by SNI or issuer)")
	flags.BoolVar(&m.ProxyProtocol, "mqtt-proxy-protocol", false, "demand a PROXY header")
	flags.Uint32Var(&m.MaxConnections, "mqtt-max-connections", 0, "bound of this listener alone (default: none)")
	flags.DurationVar(&m.IdleTimeout, "mqtt-idle-timeout", envoy.DefaultIdleTimeout, "end a silent connection; longer than any MQTT keep-alive")
	flags.BoolVar(&m.ProxyTLVs, "mqtt-proxy-tlvs", false, "tell the broker who is connected in a PROXY header (v2)")

	flags.StringVar(&m.Insecure, "insecure-mqtt", "", "as --insecure-http, for MQTT; needs hubgate's library")

	flags.BoolVar(&f.noModule, "no-module", false, "do without hubgate's library")
	flags.StringVar(&l.Library, "module-library", "", "path of libhubgate.so (default: where Envoy looks for it)")
	flags.StringArrayVar(&l.Links, "link", []string{envoy.DefaultLink}, "address of hubgate's link port (link.listen); may be repeated")
	flags.StringVar(&l.UserName, "mqtt-username", envoy.DefaultUserName, "user name that the broker sees; keep leaves the client's")
	flags.StringVar(&l.ClientID, "mqtt-client-id", envoy.DefaultClientID, "client ID that the broker sees; keep leaves the client's")
	flags.DurationVar(&l.ConnectTimeout, "mqtt-connect-timeout", envoy.DefaultConnectTimeout, "bound of the wait for an MQTT CONNECT")
	flags.IntVar(&l.MaxConnect, "mqtt-max-connect", envoy.DefaultMaxConnect, "bound of the MQTT CONNECT, in bytes")

	flags.StringVar(&o.NodeID, "node-id", "", "name of this Envoy towards hubgate (default: its host name)")
	flags.StringVar(&o.NodeCluster, "node-cluster", "", "name of its group in its own logs")
	flags.StringVar(&o.Admin, "admin", "", "address of Envoy's admin interface, on this host (default: off)")
	flags.Uint32Var(&o.MaxConnections, "max-connections", envoy.DefaultMaxConnections, "bound of all device connections")
	flags.DurationVar(&o.HandshakeTimeout, "handshake-timeout", envoy.DefaultHandshakeTimeout, "bound of a TLS handshake")
	flags.DurationVar(&o.TCPKeepalive, "tcp-keepalive", envoy.DefaultTCPKeepalive, "silence after which a peer is probed")
	flags.BoolVar(&o.AccessLog, "access-log", false, "a JSON line per request and connection on Envoy's standard output")
}

func (f *envoyFlags) run(std streams) error {
	o, errs := f.resolve()
	if err := o.Validate(); err != nil {
		errs = append(errs, asFlags(err)...)
	}
	if len(errs) > 0 {
		return &usageError{errors.Join(errs...)}
	}
	text, err := envoy.Bootstrap(o)
	if err != nil {
		return err
	}
	if f.file == "" {
		_, err = std.out.Write(text)
		return err
	}
	if err := f.write(text); err != nil {
		return err
	}
	return say(std.out, "%s is written. Check it with `envoy --mode validate -c %s`.\n", f.file, f.file)
}

func (f *envoyFlags) write(text []byte) error {
	if _, err := os.Lstat(f.file); err == nil && !f.force {
		return fmt.Errorf("%s is there already: choose another name, or --force", f.file)
	}
	if err := os.WriteFile(f.file, text, 0o644); err != nil { //nolint:gosec // it holds paths, no secrets, and Envoy runs as another user
		return fmt.Errorf("%s: %w", filepath.Base(f.file), errors.Unwrap(err))
	}
	return nil
}

// resolve puts the options together, and tells what only the flags can have
// wrong.
func (f *envoyFlags) resolve() (envoy.Options, []error) {
	var errs []error
	o := f.options
	if !f.noHTTPS {
		o.HTTPS = &f.https
	}
	if !f.noMQTT {
		o.MQTT = &f.mqtt
	}
	if !f.noModule {
		o.Module = &f.module
	}
	if f.noHTTPS && f.https.Insecure != "" {
		errs = append(errs, errors.New("--insecure-http goes beside the HTTPS listener: leave --no-https out"))
	}
	if f.noMQTT && f.mqtt.Insecure != "" {
		errs = append(errs, errors.New("--insecure-mqtt goes beside the MQTT listener: leave --no-mqtt out"))
	}
	if f.noHTTPS && f.noMQTT {
		errs = append(errs, errors.New("--no-https, --no-mqtt: nothing is left to listen on"))
	}
	if len(f.certs) != len(f.keys) {
		errs = append(errs, fmt.Errorf("--cert, --key: %s for %s", count(len(f.keys), "key"), count(len(f.certs), "certificate")))
	}
	for i := range min(len(f.certs), len(f.keys)) {
		o.Certificates = append(o.Certificates, envoy.KeyPair{Certificate: f.certs[i], Key: f.keys[i]})
	}
	switch {
	case f.tls.CA != "":
		o.Hubgate.TLS = &f.tls
	case f.tls != (envoy.ClientTLS{}):
		errs = append(errs, errors.New("--hubgate-cert, --hubgate-key, --hubgate-name: need --hubgate-ca"))
	}
	return o, errs
}

// flagOf is the flag of each field that can be wrong.
var flagOf = map[string]string{
	"Domain": "domain", "Certificates.Certificate": "cert", "Certificates.Key": "key", "TicketKeys": "ticket-key",
	"Hubgate.Addresses": "hubgate", "Hubgate.CheckTimeout": "check-timeout",
	"Hubgate.TLS.CA": "hubgate-ca", "Hubgate.TLS.Client.Certificate": "hubgate-cert", "Hubgate.TLS.Client.Key": "hubgate-key",
	"Hubgate.TLS.ServerName": "hubgate-name",
	"HTTPS.Listen":           "https-listen", "HTTPS.Backends": "https-backend", "HTTPS.Hub": "https-hub",
	"HTTPS.OnlyDomain": "https-only-domain", "HTTPS.IdleTimeout": "https-idle-timeout", "HTTPS.StreamIdleTimeout": "https-stream-idle-timeout",
	"MQTT.Listen": "mqtt-listen", "MQTT.Brokers": "mqtt-broker", "MQTT.Hub": "mqtt-hub", "MQTT.IdleTimeout": "mqtt-idle-timeout",
	"Module.Library": "module-library", "Module.Links": "link", "Module.UserName": "mqtt-username", "Module.ClientID": "mqtt-client-id",
	"Module.ConnectTimeout": "mqtt-connect-timeout", "Module.MaxConnect": "mqtt-max-connect",
	"HTTPS.Insecure": "insecure-http", "MQTT.Insecure": "insecure-mqtt",
	"NodeID": "node-id", "NodeCluster": "node-cluster", "Admin": "admin",
	"HandshakeTimeout": "handshake-timeout", "TCPKeepalive": "tcp-keepalive",
}

var listIndex = regexp.MustCompile(`\[\d+\]`)

// asFlags names the flags where the package names its fields.
func asFlags(err error) []error {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		errs = joined.Unwrap()
	}
	for i, err := range errs {
		field, text, _ := strings.Cut(err.Error(), ": ")
		if flag, ok := flagOf[listIndex.ReplaceAllString(field, "")]; ok {
			errs[i] = fmt.Errorf("--%s: %s", flag, text)
		}
	}
	return errs
}
