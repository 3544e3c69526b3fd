package authz

import (
	"bytes"
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// encodeList writes certificates the way the module does.
func encodeList(ders ...[]byte) string {
	var all []string
	for _, der := range ders {
		all = append(all, base64.StdEncoding.EncodeToString(der))
	}
	return strings.Join(all, ",")
}

// Bad input at this edge: a good check, spoiled in one way.
func TestBadInput(t *testing.T) {
	http, tcp := readFixture(t, "http-three-certificates"), readFixture(t, "tcp")
	good := http.connection(t)
	leaf, issuer := good.Leaf, good.Presented[1]
	xfcc := http.headers()[headerXFCC]
	cert := http.attributes().GetSource().GetCertificate()
	unescaped := strings.NewReplacer("%20", " ", "%0A", "\n", "%2B", "+", "%2F", "/", "%3D", "=").Replace(cert)
	own := `Hash=` + strings.TrimPrefix(strings.SplitN(xfcc, ";", 2)[0], "Hash=") + `;Cert="` + cert + `"`
	nothing := provision.Reason("")

	source := func(value string) func(*fixture) {
		return func(f *fixture) { f.attributes().GetSource().Certificate = value }
	}
	header := func(value string) func(*fixture) {
		return func(f *fixture) { f.headers()[headerXFCC] = value }
	}
	chain := func(value string) func(*fixture) { return header(own + `;Chain="` + value + `"`) }
	md := func(key string, values ...string) func(*fixture) {
		return func(f *fixture) { f.md.Set(key, values...) }
	}
	for _, tt := range []struct {
		name   string
		base   fixture
		spoil  func(*fixture)
		want   provision.Reason // "" = not for this edge to judge
		detail string           // part of it
	}{
		// The attested certificate.
		{"no source.certificate", http, source(""), provision.ListenerMisconfigured, "include_peer_certificate"},
		{"no source.certificate, TCP", tcp, source(""), provision.ListenerMisconfigured, "include_peer_certificate"},
		{"no source.certificate, fingerprints say none, principal says one", tcp, func(f *fixture) {
			f.attributes().GetSource().Certificate = ""
			f.md.Set(keyFingerprints, "-")
		}, provision.ListenerMisconfigured, "include_peer_certificate"},
		{"no source.certificate and no other sign of one", tcp, func(f *fixture) {
			f.attributes().Source = nil
			f.md.Set(keyFingerprints, "-")
		}, nothing, ""},
		{"no source.certificate, no sign of one, metadata not set up", tcp, func(f *fixture) {
			f.attributes().Source = nil
			f.md = nil
		}, provision.ListenerMisconfigured, "include_peer_certificate"},
		{"empty PEM", tcp, source("%0A"), provision.CertificateMalformed, "no PEM block of type CERTIFICATE where certificate 1 should begin"},
		{"no PEM", tcp, source("MIIB"), provision.CertificateMalformed, "no PEM block"},
		{"broken URL encoding", tcp, source("%zz"), provision.CertificateMalformed, "not URL-encoded"},
		{"encoded as a query", tcp, source(strings.ReplaceAll(unescaped, " ", "+")), provision.CertificateMalformed, "no PEM block"},
		{"broken base64", tcp, source(strings.Replace(cert, "MII", "M*I", 1)), provision.CertificateMalformed, "broken base64"},
		{"empty block", tcp, source(envoyEscape(pemBegin + "\n" + pemEnd + "\n")), provision.CertificateMalformed, "empty"},
		{"cut off", tcp, source(cert[:len(cert)/2]), provision.CertificateMalformed, "does not end"},
		{"bytes before", tcp, source("x" + cert), provision.CertificateMalformed, "no PEM block"},
		{"trailing bytes", tcp, source(cert + "x"), provision.CertificateMalformed, "certificate 2 should begin"},
		{"PEM headers", tcp, source(strings.Replace(cert, "%0A", "%0AProc-Type:%204,ENCRYPTED%0A%0A", 1)), provision.CertificateMalformed, "broken base64"},
		{"another block type", tcp, source(strings.ReplaceAll(cert, "CERTIFICATE", "PRIVATE%20KEY")), provision.CertificateMalformed, "no PEM block of type CERTIFICATE"},
		{"a broken block before a good one", tcp, source(envoyEscape(pemBegin+"\nMII\n") + cert), provision.CertificateMalformed, "broken base64"},
		{"two certificates", tcp, source(encodePEM(leaf, issuer)), provision.CertificateMalformed, "more than one certificate"},
		{"1 MiB", tcp, source(cert + strings.Repeat("%0A", 350_000)), provision.CertificateUnsupported, "more than 10 certificates or 65536 bytes"},
		{"DER garbage", tcp, func(f *fixture) { source(encodePEM([]byte("garbage")))(f); f.md = nil }, nothing, ""}, // trust parses

		// The forwarded header.
		{"two elements, the forged one first", http, header(`Hash=00,` + xfcc), provision.ListenerMisconfigured, "2 elements: set forward_client_cert_details: SANITIZE_SET"},
		{"two elements, the forged one last", http, header(xfcc + `,Hash=00`), provision.ListenerMisconfigured, "2 elements"},
		{"the same element twice", http, header(xfcc + "," + xfcc), provision.ListenerMisconfigured, "2 elements"},
		{"unbalanced quotes", http, header(xfcc[:len(xfcc)/2]), provision.ListenerMisconfigured, "cannot be parsed (unbalanced quotes"},
		{"no key", http, header("nonsense"), provision.ListenerMisconfigured, "cannot be parsed"},
		{"another Hash", http, header(`Hash=` + strings.Repeat("0", 64) + `;Chain="` + cert + `"`), provision.ListenerMisconfigured, "about another certificate"},
		{"another Cert", http, header(`Cert="` + encodePEM(issuer) + `"`), provision.ListenerMisconfigured, "about another certificate"},
		{"undecodable Cert", http, header(`Cert="x"`), provision.ListenerMisconfigured, "about another certificate"},
		{"two Chains", http, header(xfcc + `;chain="` + cert + `"`), provision.ListenerMisconfigured, "Chain is there twice"},
		{"Chain without the leaf", http, chain(encodePEM(issuer)), provision.ListenerMisconfigured, "the Chain of x-forwarded-client-cert begins with another certificate"},
		{"Chain with trailing bytes", http, chain(cert + "x"), provision.CertificateMalformed, "certificate 2 should begin"},
		{"Chain with a broken certificate", http, chain(cert + envoyEscape(pemBegin+"\n*\n"+pemEnd)), provision.CertificateMalformed, "certificate 2: broken base64"},
		{"Chain with a private key", http, chain(cert + strings.ReplaceAll(cert, "CERTIFICATE", "PRIVATE%20KEY")), provision.CertificateMalformed, "no PEM block of type CERTIFICATE"},
		{"Chain of blanks", http, chain("%0A%0A"), provision.CertificateMalformed, "no PEM block"},
		{"Chain of 1 MiB", http, chain(cert + strings.Repeat("%0A", 350_000)), provision.CertificateUnsupported, "more than 10 certificates or 65536 bytes"},
		{"Chain of 11 certificates", http, chain(encodePEM(repeat(leaf, 11)...)), provision.CertificateUnsupported, "more than 10"},
		{"Chain of 65 KiB", http, chain(encodePEM(leaf, make([]byte, 65<<10))), provision.CertificateUnsupported, "65536 bytes"},
		{"Chain of 10 certificates", http, chain(encodePEM(repeat(leaf, 10)...)), nothing, ""},
		{"no Chain", http, header(own), nothing, ""}, // a leaf alone is fine
		{"forged header without a certificate", readFixture(t, "http-plaintext"), header(`Hash=00,x`), nothing, ""},

		// The metadata.
		{"fingerprint of another leaf", tcp, md(keyFingerprints, strings.Repeat("0", 64)), provision.ListenerMisconfigured, "begins with another certificate"},
		{"half a fingerprint", tcp, md(keyFingerprints, "abcd"), provision.ListenerMisconfigured, "fingerprint 1 has 4 characters"},
		{"no hex", tcp, md(keyFingerprints, strings.Repeat("x", 64)), provision.ListenerMisconfigured, "fingerprint 1: encoding/hex"},
		{"fingerprints twice", tcp, md(keyFingerprints, "a", "b"), provision.ListenerMisconfigured, "hubgate-chain-sha256 2 times"},
		{"hub twice", tcp, md(keyHub, "factory", "other"), provision.ListenerMisconfigured, "hubgate-hub 2 times"},
		{"node twice", tcp, md(keyNode, "a", "b"), provision.ListenerMisconfigured, "hubgate-node 2 times"},
		{"connection twice", tcp, md(keyConnection, "a", "b"), provision.ListenerMisconfigured, "hubgate-connection 2 times"},
		{"source twice", tcp, md(keySource, "192.0.2.1", "192.0.2.2"), provision.ListenerMisconfigured, "hubgate-source 2 times"},
		{"chain twice", tcp, md(keyChain, "a", "b"), provision.ListenerMisconfigured, "hubgate-chain 2 times"},
		{"two hubs", tcp, func(f *fixture) {
			f.md.Set(keyHub, "factory")
			f.attributes().ContextExtensions = map[string]string{"hub": "other"}
		}, provision.ListenerMisconfigured, `names two hubs: "factory" in the metadata hubgate-hub, "other" in context_extensions`},
		{"the same hub twice", tcp, func(f *fixture) {
			f.md.Set(keyHub, "factory")
			f.attributes().ContextExtensions = map[string]string{"hub": "factory"}
		}, nothing, ""},
		{"module's chain without the leaf", tcp, md(keyChain, encodeList(issuer)), provision.ListenerMisconfigured, "metadata hubgate-chain begins with another certificate"},
		{"module's chain broken", tcp, md(keyChain, encodeList(leaf)+",*"), provision.CertificateMalformed, "metadata hubgate-chain: certificate 2: broken base64"},
		{"module's chain with a gap", tcp, md(keyChain, encodeList(leaf)+",,"+encodeList(issuer)), provision.CertificateMalformed, "certificate 2: empty"},
		{"module's chain of 11 certificates", tcp, md(keyChain, encodeList(repeat(leaf, 11)...)), provision.CertificateUnsupported, "more than 10"},
		{"module's chain of 100 KiB", tcp, md(keyChain, encodeList(leaf, make([]byte, 100<<10))), provision.CertificateUnsupported, "more than 10 certificates or 65536 bytes"},

		// Nothing at all.
		{"no attributes", fixture{req: &authv3.CheckRequest{}}, func(*fixture) {}, nothing, ""},
		{"an address that is none", tcp, func(f *fixture) { f.attributes().GetSource().Address = &corev3.Address{} }, nothing, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := fixture{md: maps.Clone(tt.base.md), req: proto.Clone(tt.base.req).(*authv3.CheckRequest)}
			if f.md == nil {
				f.md = metadata.MD{}
			}
			tt.spoil(&f)
			c := f.connection(t)
			checkProblem(t, c.Problem, tt.want, tt.detail)
			if len(c.Presented) > trust.MaxCertificates {
				t.Errorf("%d certificates were decoded", len(c.Presented))
			}
		})
	}
}

func repeat(der []byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = der
	}
	return all
}

// The longest chain that package trust accepts fits the bounds on its encoded
// form, in both encodings, even if every character is percent-encoded.
func TestEncodedBounds(t *testing.T) {
	sizes := []int{trust.MaxChainBytes - 2*(trust.MaxCertificates-1)}
	for range trust.MaxCertificates - 1 {
		sizes = append(sizes, 2) // the least favourable for base64
	}
	var ders [][]byte
	for _, n := range sizes {
		ders = append(ders, bytes.Repeat([]byte{0xff}, n))
	}
	var worst strings.Builder
	for _, c := range []byte(envoyUnescape(encodePEM(ders...))) {
		worst.WriteString("%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789ABCDEF"[c&15]))
	}
	for name, decode := range map[string]func() ([][]byte, error){
		"PEM":  func() ([][]byte, error) { return decodePEM(worst.String()) },
		"list": func() ([][]byte, error) { return decodeList(encodeList(ders...)) },
	} {
		if got, err := decode(); err != nil || len(got) != len(ders) {
			t.Errorf("%s: %d certificates, %v; want %d", name, len(got), err, len(ders))
		}
	}
}

func envoyUnescape(s string) string {
	return strings.NewReplacer("%20", " ", "%0A", "\n", "%2B", "+", "%2F", "/", "%3D", "=").Replace(s)
}

// FuzzConnection: no check panics, the leaf only ever comes from
// source.certificate, the hub hint never from the request, and nothing is
// decoded beyond the limits.
func FuzzConnection(f *testing.F) {
	for _, name := range []string{"http-three-certificates", "http-tricky-names", "http-raw-headers", "http-hub-hint", "tcp", "tcp-hub-hint", "tcp-no-certificate"} {
		x := readFixture(f, name)
		b, err := proto.Marshal(x.req)
		if err != nil {
			f.Fatal(err)
		}
		first := func(key string) string { return strings.Join(x.md.Get(key), ",") }
		f.Add(b, first(keyFingerprints), first(keyChain), first(keyHub), first(keySource))
	}
	f.Fuzz(func(t *testing.T, message []byte, fingerprints, chain, hub, source string) {
		req := &authv3.CheckRequest{}
		if proto.Unmarshal(message, req) != nil {
			return
		}
		md := metadata.Pairs(keyFingerprints, fingerprints, keyChain, chain, keyHub, hub, keySource, source)
		c := fixture{md: md, req: req}.connection(t)
		a := req.GetAttributes()
		if c.Leaf != nil {
			if got, err := decodePEM(a.GetSource().GetCertificate()); err != nil || len(got) != 1 || !bytes.Equal(got[0], c.Leaf) {
				t.Error("the leaf is not source.certificate")
			}
			if !c.TLS {
				t.Error("a leaf without TLS")
			}
		}
		if c.HubHint != "" && c.HubHint != hub && c.HubHint != a.GetContextExtensions()[keyHubExtension] {
			t.Errorf("hub hint %q comes from nowhere", c.HubHint)
		}
		if len(c.Presented) > 0 && !bytes.Equal(c.Presented[0], c.Leaf) {
			t.Error("the presented chain begins with another certificate")
		}
		if len(c.Presented) > trust.MaxCertificates || len(c.Attested) > trust.MaxCertificates+1 {
			t.Errorf("%d certificates and %d fingerprints were decoded", len(c.Presented), len(c.Attested))
		}
		if c.Problem != nil && (c.Problem.Reason == "" || c.Problem.Detail == "") {
			t.Errorf("a problem without reason or detail: %+v", c.Problem)
		}
		// What the device says in headers changes nothing but the chain.
		if h := a.GetRequest().GetHttp(); h != nil {
			h.Headers, h.HeaderMap = nil, nil
			bare := fixture{md: md, req: req}.connection(t)
			if bare.HubHint != c.HubHint || !bytes.Equal(bare.Leaf, c.Leaf) || bare.Source != c.Source || bare.TLS != c.TLS || bare.Node != c.Node {
				t.Error("request headers changed more than the presented chain")
			}
		}
	})
}
