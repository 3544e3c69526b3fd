package authz

import (
	"crypto/sha256"
	"crypto/x509"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// What each listener of testdata/capture made of a device, in the domain's
// words.
func TestConnectionOfRealChecks(t *testing.T) {
	const factory = "factory.iot.example.com"
	for _, tt := range []struct {
		fixture   string
		protocol  provision.Protocol
		tls       bool
		leaf      string // common name, "" = no leaf
		presented int    // certificates, leaf included
		attested  int
		sni       string
		authority string
		source    string
		hub       string
		problem   provision.Reason
		detail    string // part of it
	}{
		{fixture: "http-three-certificates", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory, source: "127.0.0.1"},
		{fixture: "http-leaf-only", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 1, attested: 1,
			sni: factory, authority: factory, source: "127.0.0.1"},
		{fixture: "http-resumed", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory, source: "127.0.0.1"},
		{fixture: "http-raw-headers", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory, source: "127.0.0.1"},
		{fixture: "http-no-sni", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			authority: "10.0.0.1:8443", source: "127.0.0.1"},
		{fixture: "http-forged-headers", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory, source: "127.0.0.1"},
		{fixture: "http-hub-hint", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			authority: "10.0.0.1", source: "127.0.0.1", hub: "factory"},
		{fixture: "http-forwarded-for", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory, source: "203.0.113.9"},
		{fixture: "http-proxy-protocol", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory, source: "2001:db8::7"},
		{fixture: "http-pipe", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", presented: 3, attested: 3,
			sni: factory, authority: factory},
		{fixture: "http-no-certificate", protocol: provision.HTTP, tls: true,
			sni: factory, authority: factory, source: "127.0.0.1"},
		{fixture: "http-plaintext", protocol: provision.HTTP,
			authority: factory, source: "127.0.0.1"},
		{fixture: "http-not-sanitised", protocol: provision.HTTP, tls: true, leaf: "sensor-0001", attested: 3,
			sni: factory, authority: factory, source: "127.0.0.1",
			problem: provision.ListenerMisconfigured, detail: "has 2 elements: set forward_client_cert_details: SANITIZE_SET"},
		{fixture: "http-tricky-names", protocol: provision.HTTP, tls: true, leaf: `sensor "2", \`, attested: 2,
			sni: factory, authority: factory, source: "127.0.0.1",
			problem: provision.ListenerMisconfigured, detail: "no uri or dns in set_current_client_cert_details"},
		{fixture: "http-bare-listener", protocol: provision.HTTP, tls: true,
			authority: factory, source: "127.0.0.1",
			problem: provision.ListenerMisconfigured, detail: "include_peer_certificate: true"},
		{fixture: "tcp", protocol: provision.TCP, tls: true, leaf: "sensor-0001", attested: 3, sni: factory, source: "127.0.0.1"},
		{fixture: "tcp-resumed", protocol: provision.TCP, tls: true, leaf: "sensor-0001", attested: 3, sni: factory, source: "127.0.0.1"},
		{fixture: "tcp-proxy-protocol", protocol: provision.TCP, tls: true, leaf: "sensor-0001", attested: 3, sni: factory, source: "203.0.113.9"},
		{fixture: "tcp-hub-hint", protocol: provision.TCP, tls: true, leaf: "sensor-0001", attested: 3, source: "127.0.0.1", hub: "factory"},
		{fixture: "tcp-no-certificate", protocol: provision.TCP, tls: true, sni: factory, source: "127.0.0.1"},
		{fixture: "tcp-plaintext", protocol: provision.TCP, source: "127.0.0.1"},
		{fixture: "tcp-bare-listener", protocol: provision.TCP, tls: true, source: "127.0.0.1",
			problem: provision.ListenerMisconfigured, detail: "include_peer_certificate: true"},
	} {
		t.Run(tt.fixture, func(t *testing.T) {
			f := readFixture(t, tt.fixture)
			c := f.connection(t)
			check := func(what string, got, want any) {
				t.Helper()
				if got != want {
					t.Errorf("%s is %v, want %v", what, got, want)
				}
			}
			check("protocol", c.Protocol, tt.protocol)
			check("TLS", c.TLS, tt.tls)
			check("number of presented certificates", len(c.Presented), tt.presented)
			check("number of fingerprints", len(c.Attested), tt.attested)
			check("SNI", c.SNI, tt.sni)
			check("authority", c.Authority, tt.authority)
			check("hub hint", c.HubHint, tt.hub)
			if tt.source == "" {
				check("source known", c.Source.IsValid(), false)
			} else {
				check("source", c.Source.String(), tt.source)
			}
			if bare := strings.HasSuffix(tt.fixture, "bare-listener"); !bare {
				check("node", c.Node, "envoy-1")
				check("Envoy's connection known", c.EnvoyConnection != "", true)
			}
			checkProblem(t, c.Problem, tt.problem, tt.detail)
			if tt.leaf == "" {
				check("leaf", len(c.Leaf), 0)
				return
			}
			want := certificate(t, f.attributes().GetSource().GetCertificate())
			check("leaf is source.certificate", string(c.Leaf), string(want.Raw))
			check("common name", want.Subject.CommonName, tt.leaf)
			for i, der := range c.Presented {
				if _, err := x509.ParseCertificate(der); err != nil {
					t.Errorf("presented certificate %d: %v", i, err)
				}
				check("fingerprint of a presented certificate", sha256.Sum256(der), [32]byte(c.Attested[i]))
			}
		})
	}
}

func checkProblem(t *testing.T, got *provision.Problem, reason provision.Reason, detail string) {
	t.Helper()
	switch {
	case reason == "" && got != nil:
		t.Errorf("problem %s: %s; want none", got.Reason, got.Detail)
	case reason != "" && got == nil:
		t.Errorf("no problem, want %s", reason)
	case reason != "" && (got.Reason != reason || !strings.Contains(got.Detail, detail)):
		t.Errorf("problem %s: %s\nwant %s: …%s…", got.Reason, got.Detail, reason, detail)
	}
}

// The chain of the module's metadata stands in where Envoy forwards none.
func TestChainFromMetadata(t *testing.T) {
	https, tcp := readFixture(t, "http-three-certificates"), readFixture(t, "tcp")
	chain := https.connection(t).Presented
	tcp.md.Set(keyChain, encodeList(chain...))
	c := tcp.connection(t)
	checkProblem(t, c.Problem, "", "")
	if len(c.Presented) != len(chain) {
		t.Fatalf("%d certificates presented, want %d", len(c.Presented), len(chain))
	}
	for i := range chain {
		if string(c.Presented[i]) != string(chain[i]) {
			t.Errorf("certificate %d is another", i)
		}
	}
	tcp.md.Set(keyChain, "-") // how Envoy may print that there is none
	if c := tcp.connection(t); c.Presented != nil || c.Problem != nil {
		t.Errorf("a dash makes %d certificates, problem %v", len(c.Presented), c.Problem)
	}
}

func TestSource(t *testing.T) {
	for _, tt := range []struct{ name, address, metadata, want string }{
		{"IPv4", "192.0.2.1", "", "192.0.2.1"},
		{"IPv6", "2001:db8::1", "", "2001:db8::1"},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", "", "192.0.2.1"},
		{"zone", "fe80::1%eth0", "", "fe80::1"},
		{"trusted hop", "192.0.2.1", "203.0.113.9", "203.0.113.9"},
		{"IPv4 in IPv6 by metadata", "192.0.2.1", "::ffff:203.0.113.9", "203.0.113.9"},
		{"metadata is a path", "192.0.2.1", "/run/envoy.sock", "192.0.2.1"},
		{"a name", "device.example", "", "invalid IP"},
		{"none", "", "", "invalid IP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := readFixture(t, "tcp")
			f.attributes().GetSource().GetAddress().GetSocketAddress().Address = tt.address
			f.md.Set(keySource, tt.metadata)
			if got := f.connection(t).Source.String(); got != tt.want {
				t.Errorf("source %s, want %s", got, tt.want)
			}
		})
	}
}

// One fingerprint too many is enough to refuse the chain by.
func TestManyFingerprints(t *testing.T) {
	f := readFixture(t, "tcp")
	own := f.md.Get(keyFingerprints)[0]
	f.md.Set(keyFingerprints, own+strings.Repeat(","+strings.Repeat("0", 64), 400))
	c := f.connection(t)
	checkProblem(t, c.Problem, "", "")
	if len(c.Attested) != trust.MaxCertificates+1 {
		t.Errorf("%d fingerprints, want %d", len(c.Attested), trust.MaxCertificates+1)
	}
}

// A refused check is described, not read.
func TestRefusal(t *testing.T) {
	f := readFixture(t, "http-three-certificates")
	c := f.translation(t).refusal(provision.Problem{Reason: provision.Overloaded})
	if c.Problem.Reason != provision.Overloaded || c.Leaf != nil || c.Presented != nil {
		t.Errorf("%v, leaf %d bytes, %d presented", c.Problem, len(c.Leaf), len(c.Presented))
	}
	if c.Protocol != provision.HTTP || c.Source.String() != "127.0.0.1" || c.Node != "envoy-1" {
		t.Errorf("the log line needs protocol, source and node: %q %v %q", c.Protocol, c.Source, c.Node)
	}
}

// What the Gate is told outlives the message, whose memory the next check gets.
func TestConnectionOwnsItsMemory(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			f := readFixture(t, name)
			message := f.message(t)
			c := f.translationOf(t, unsafe.String(&message[0], len(message))).connection()
			if c.Evidence != nil {
				c.Evidence.Read(&c)
				c.Evidence = nil
			}
			clear(message)
			if want := f.connection(t); !reflect.DeepEqual(c, want) {
				t.Errorf("got  %+v\nwant %+v", c, want)
			}
		})
	}
}

func BenchmarkConnection(b *testing.B) {
	f := readFixture(b, "http-three-certificates")
	b.ReportAllocs()
	for b.Loop() {
		if c := f.connection(b); c.Problem != nil {
			b.Fatal(c.Problem)
		}
	}
}
