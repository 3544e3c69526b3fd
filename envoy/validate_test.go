package envoy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestValidateNamesEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	bad := Options{
		Domain: "IoT.example.com",
		HTTPS: &HTTPS{
			Listen: "localhost:8443", Backends: []string{"backend", "127.0.0.1:0"}, Hub: "Factory",
			IdleTimeout: -time.Second, StreamIdleTimeout: time.Microsecond,
		},
		MQTT:         &MQTT{Listen: ":8883", Brokers: []string{"broker:1883", "unix:///run/broker.sock"}, Hub: "a.b", IdleTimeout: -1},
		Certificates: []KeyPair{{"cert.pem", ""}, {"", "key.pem"}},
		TicketKeys:   []string{"tick\net"},
		Hubgate: Hubgate{
			Addresses: []string{"unix://relative"}, CheckTimeout: -1,
			TLS: &ClientTLS{Client: KeyPair{Certificate: "c.pem"}, ServerName: "Hub_gate"},
		},
		NodeID: "%ID%", NodeCluster: "größe", Admin: "0.0.0.0:9901",
		HandshakeTimeout: -1, TCPKeepalive: time.Millisecond,
		Module: &Module{
			Library: "libhubgate.so", Links: []string{"nowhere"}, UserName: "{hub_id}/größe", ClientID: "\n",
			TLS: &ClientTLS{CA: "ca.pem", ServerName: "Hub_gate"}, ConnectTimeout: -1, MaxConnect: 1023,
		},
	}
	want := []string{
		`Domain: "IoT.example.com" is not a DNS name in lower case`,
		`HTTPS.Listen: "localhost:8443" is not IP:port`,
		`HTTPS.Hub: "Factory" is neither a hub's name nor its ID`,
		`HTTPS.Backends[0]: "backend" is neither host:port nor unix:///path`,
		`HTTPS.Backends[1]: "127.0.0.1:0" is neither host:port nor unix:///path`,
		`HTTPS.IdleTimeout: -1s is less than 1ms`,
		`HTTPS.StreamIdleTimeout: 1µs is less than 1ms`,
		`MQTT.Listen: ":8883" is not IP:port`,
		`MQTT.Hub: "a.b" is neither a hub's name nor its ID`,
		`MQTT.Brokers: Envoy cannot mix host names and Unix sockets`,
		`MQTT.IdleTimeout: -1ns is less than 1ms`,
		`Certificates[0].Key: "" is not a file name in printable ASCII`,
		`Certificates[1].Certificate: "" is not a file name in printable ASCII`,
		`TicketKeys[0]: "tick\net" is not a file name in printable ASCII`,
		`Hubgate.Addresses[0]: "unix://relative" is neither host:port nor unix:///path`,
		`Hubgate.CheckTimeout: -1ns is less than 1ms`,
		`Hubgate.TLS.CA: "" is not a file name in printable ASCII`,
		`Hubgate.TLS.Client.Key: "" is not a file name in printable ASCII`,
		`Hubgate.TLS.ServerName: "Hub_gate" is neither a DNS name in lower case nor an IP address`,
		`Module.Library: "libhubgate.so" is not an absolute path in printable ASCII`,
		`Module.Links[0]: "nowhere" is neither host:port nor unix:///path`,
		`Module.TLS.ServerName: "Hub_gate" is neither a DNS name in lower case nor an IP address`,
		`Module.UserName: "{hub_id}/größe" is not printable ASCII`,
		`Module.ClientID: "\n" is not printable ASCII`,
		`Module.ConnectTimeout: -1ns is less than 1ms`,
		`Module.MaxConnect: 1023 is not within 1024 and 1048576`,
		`NodeID: "%ID%" is not printable ASCII without '%' and ','`,
		`NodeCluster: "größe" is not printable ASCII`,
		`Admin: "0.0.0.0:9901" is neither a loopback address with a port nor unix:///path`,
		`HandshakeTimeout: -1ns is less than 1ms`,
		`TCPKeepalive: 1ms is less than 1s`,
	}
	config, err := Bootstrap(bad)
	if err == nil || config != nil {
		t.Fatalf("Bootstrap = %q, %v; want an error alone", config, err)
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("mistakes:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestValidateSeesListenersTogether(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"MQTT.Listen: 0.0.0.0:8443 is the HTTPS listener's":        {HTTPS: &HTTPS{}, MQTT: &MQTT{Listen: DefaultHTTPSListen}},
		"HTTPS.OnlyDomain: needs Domain":                           {HTTPS: &HTTPS{OnlyDomain: true}},
		"HTTPS.Insecure: \"nowhere\" is not IP:port":               {HTTPS: &HTTPS{Insecure: "nowhere"}},
		"HTTPS.Insecure: 0.0.0.0:8443 is another listener's":       {HTTPS: &HTTPS{Insecure: DefaultHTTPSListen}},
		"MQTT.Insecure: 0.0.0.0:1884 is another listener's":        {HTTPS: &HTTPS{Insecure: "0.0.0.0:1884"}, MQTT: &MQTT{Insecure: "0.0.0.0:1884"}, Module: &Module{}},
		"MQTT.Insecure: needs Module, which reads the credentials": {MQTT: &MQTT{Insecure: "0.0.0.0:1884"}},
	} {
		if err := o.Validate(); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("zero Options: %v", err)
	}
}

func TestBootstrapDefaultsAreTheGoldenFile(t *testing.T) {
	t.Parallel()
	got, err := Bootstrap(Options{})
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "default.yaml")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("default configuration changed; if on purpose, run: UPDATE_GOLDEN=1 go test -run Golden ./envoy\n%s", got)
	}
}

// TestEnvoyAcceptsEveryOption has the real Envoy read each configuration.
func TestEnvoyAcceptsEveryOption(t *testing.T) {
	t.Parallel()
	v := newVendor(t)
	pair, client, ca := v.server(t), v.client(t), v.ca(t)
	library, err := buildLibrary()
	if err != nil {
		t.Fatal(err)
	}
	ticket := filepath.Join(t.TempDir(), "ticket.key")
	if err := os.WriteFile(ticket, []byte(strings.Repeat("k", 80)), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]Options{
		"defaults":   {},
		"HTTPS only": {HTTPS: &HTTPS{}},
		"MQTT only":  {MQTT: &MQTT{}},
		"access log": {AccessLog: true},
		"admin":      {Admin: "127.0.0.1:9901"},
		"admin socket": {
			Admin: "unix:///run/envoy-admin.sock",
		},
		"IPv6": {
			HTTPS: &HTTPS{Listen: "[::]:8443", Backends: []string{"[::1]:8080"}},
			MQTT:  &MQTT{Listen: "[::1]:8883"},
		},
		"PROXY protocol and hops": {
			HTTPS: &HTTPS{ProxyProtocol: true, TrustedHops: 2}, MQTT: &MQTT{ProxyProtocol: true},
		},
		"limits and timeouts": {
			HTTPS:          &HTTPS{MaxConnections: 10, IdleTimeout: time.Millisecond, StreamIdleTimeout: time.Hour},
			MQTT:           &MQTT{MaxConnections: 4_294_967_295, IdleTimeout: 18 * time.Hour},
			MaxConnections: 4_294_967_295, HandshakeTimeout: time.Second, TCPKeepalive: time.Second,
			Hubgate: Hubgate{CheckTimeout: 1500 * time.Millisecond},
		},
		"names and several upstreams": {
			Domain: "iot.example.com",
			HTTPS: &HTTPS{
				Backends: []string{"a.internal:8080", "10.0.0.7:8080"}, BackendHTTP2: true, OnlyDomain: true,
			},
			MQTT:    &MQTT{Brokers: []string{"broker-0.internal:1883", "broker-1.internal:1883"}},
			Hubgate: Hubgate{Addresses: []string{"hubgate:9191", "127.0.0.1:9191"}},
		},
		"sockets": {
			HTTPS: &HTTPS{Backends: []string{"unix:///run/backend.sock"}},
			MQTT:  &MQTT{Brokers: []string{"unix:///run/broker.sock"}},
			Hubgate: Hubgate{
				Addresses: []string{"unix:///run/hubgate.sock"},
				TLS:       &ClientTLS{CA: ca, ServerName: "hubgate.internal"},
			},
		},
		"mTLS to hubgate by IP address": {
			Hubgate: Hubgate{Addresses: []string{"127.0.0.1:9191"}, TLS: &ClientTLS{CA: ca, Client: client}},
		},
		"mTLS to hubgate by name": {
			Hubgate: Hubgate{Addresses: []string{"hubgate.internal:9191"}, TLS: &ClientTLS{CA: ca, Client: client}},
		},
		"certificates and tickets": {
			Certificates: []KeyPair{pair, pair}, TicketKeys: []string{ticket, ticket},
		},
		"TLVs":               {MQTT: &MQTT{ProxyTLVs: true}},
		"TLVs behind PROXY":  {MQTT: &MQTT{ProxyTLVs: true, ProxyProtocol: true}},
		"library":            {Module: &Module{Library: library}},
		"library, MQTT only": {MQTT: &MQTT{Hub: "on", MaxConnections: 7}, Module: &Module{Library: library}, NodeID: "1e3"},
		"library, every option": {
			Hubgate: Hubgate{Addresses: []string{"hubgate.internal:9191"}, TLS: &ClientTLS{CA: ca, Client: client}},
			Module: &Module{
				Library: library, Links: []string{"hubgate.internal:9194", "unix:///run/link.sock"}, TLS: &ClientTLS{CA: ca},
				UserName: "{device_id}", ClientID: "{hub_id}:{device_name}/{client_id}", ConnectTimeout: 1500 * time.Millisecond, MaxConnect: 1 << 20,
			},
		},
		"node": {NodeID: "edge-1 (rack 7: \"left\")", NodeCluster: "edge"},
	}
	// Words that YAML readers like to take for something else.
	for _, word := range []string{"on", "no", "y", "null", "1e3", "0x1f", "123", "1-2", "0b7d5c1e-0000-4000-8000-000000000001"} {
		cases["hub "+word] = Options{HTTPS: &HTTPS{Hub: word}, MQTT: &MQTT{Hub: word}, NodeID: word, NodeCluster: word}
	}
	envoy := envoyPath(t)
	slots := make(chan struct{}, 2) // of CPU
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			if len(o.Certificates) == 0 {
				o.Certificates = []KeyPair{pair}
			}
			config, err := Bootstrap(o)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "envoy.yaml")
			if err := os.WriteFile(file, config, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "--log-level", "warn", "-c", file).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, out, config)
			}
			// Deprecated fields and risky defaults show up as warnings.
			if strings.Contains(string(out), "[warning]") {
				t.Errorf("Envoy warns:\n%s", out)
			}
		})
	}
}
