package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/metadata"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// Bad input, each with the reason it is refused for; nothing is ever created.
// Where Envoy's TLS library lets the connection through, a real device makes
// it, over HTTPS and MQTT; where it ends the handshake, that is checked, and
// hubgate is asked at its own port what it would have said.

// route is how bad input reaches hubgate.
type route int

const (
	viaEnvoy route = iota
	// viaGRPC: the handshake fails before hubgate is asked. Mostly it is Envoy's
	// TLS library that refuses; some keys the device's own library cannot use.
	viaGRPC
)

// badLeaf: what may be wrong with the device's own certificate.
func badLeaf(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate), intermediates(v.line.Certificate))
	year := 365 * 24 * time.Hour
	now := time.Now()
	named := func(cn string) *pki.Identity { return v.device(t, cn) }
	subject := func(n pkix.Name) *pki.Identity {
		return v.device(t, "", pki.WithTemplate(func(c *x509.Certificate) { c.Subject = n }))
	}
	with := func(change func(*x509.Certificate)) *pki.Identity {
		return v.device(t, "SN-1", pki.WithTemplate(change))
	}
	valid := func(from, to time.Time) *pki.Identity { return v.device(t, "SN-1", pki.WithValidity(from, to)) }
	cn := func(value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: value}
	}
	for _, row := range []struct {
		name string
		leaf tls.Certificate
		via  route
		want provision.Reason
	}{
		{"no CN", as(subject(pkix.Name{Organization: []string{"SN-1"}})).cert, viaEnvoy, provision.NameInvalid},
		{"two CNs", as(subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{cn("SN-1"), cn("SN-2")}})).cert, viaEnvoy, provision.NameInvalid},
		{"65 characters", as(named(strings.Repeat("x", 65))).cert, viaEnvoy, provision.NameInvalid},
		{"space before", as(named(" SN-1")).cert, viaEnvoy, provision.NameInvalid},
		{"space after", as(named("SN-1 ")).cert, viaEnvoy, provision.NameInvalid},
		{"/", as(named("SN/1")).cert, viaEnvoy, provision.NameInvalid},
		{"#", as(named("SN#1")).cert, viaEnvoy, provision.NameInvalid},
		{"+", as(named("SN+1")).cert, viaEnvoy, provision.NameInvalid},
		{"$", as(named("$SYS")).cert, viaEnvoy, provision.NameInvalid},
		{"NUL", as(named("SN\x00-1")).cert, viaEnvoy, provision.NameInvalid},
		{"line break", as(named("SN\n1")).cert, viaEnvoy, provision.NameInvalid},
		{"non-ASCII", as(named("Gerät-1")).cert, viaEnvoy, provision.NameInvalid},
		{"a hub's ID", as(named(hub.ID.String())).cert, viaEnvoy, provision.NameInvalid},
		{"invalid UTF-8", patched(as(named("SN_XX")).cert, "SN_XX", "SN_\xff\xfe"), viaGRPC, provision.CertificateMalformed},
		{"negative serial", negativeSerial(as(named("SN-1")).cert), viaEnvoy, provision.CertificateMalformed},
		{"expired", as(valid(now.Add(-2*year), now.Add(-year))).cert, viaEnvoy, provision.CertificateExpired},
		{"expired a moment ago", as(valid(now.Add(-year), now.Add(-time.Second))).cert, viaEnvoy, provision.CertificateExpired},
		{"not yet valid", as(valid(now.Add(time.Hour), now.Add(year))).cert, viaEnvoy, provision.CertificateNotYetValid},
		{"for servers only", as(with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })).cert,
			viaEnvoy, provision.CertificateWrongUsage},
		{"a CA that may sign handshakes", as(with(func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign
		})).cert, viaEnvoy, provision.CertificateWrongUsage},
		{"a CA", as(with(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })).cert, viaGRPC, provision.CertificateWrongUsage},
		{"a key of 1024 bits", as(v.device(t, "SN-1", pki.WithKey(pki.RSA1024))).cert, viaEnvoy, provision.CertificateUnsupported},
		{"a key of 56,000 bits", as(v.device(t, "SN-1", pki.WithSigner(hugeKey{}))).cert, viaGRPC, provision.CertificateUnsupported},
		{"a curve nobody uses", as(v.device(t, "SN-1", pki.WithKey(pki.P224))).cert, viaGRPC, provision.CertificateUnsupported},
		{"signed with SHA-1", sha1Leaf(t), viaEnvoy, provision.CertificateUnsupported},
		{"DER garbage", tls.Certificate{Certificate: [][]byte{[]byte("garbage")}, PrivateKey: named("SN-1").Key}, viaGRPC, provision.CertificateMalformed},
		{"empty", tls.Certificate{Certificate: [][]byte{{}}, PrivateKey: named("SN-1").Key}, viaGRPC, provision.CertificateMalformed},
		{"trailing bytes", trailing(as(named("SN-1")).cert), viaGRPC, provision.CertificateMalformed},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, p := range protocols {
				w.refuse(t, p, dial{cert: row.leaf}.named(host(hub.Name)), row.via, row.want)
			}
		})
	}
	w.empty(t, hub)
}

// badChain: what may be wrong above a good leaf. Only HTTPS brings the chain to
// hubgate.
func badChain(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate))
	leaf := v.device(t, "SN-1")
	line := v.line.Certificate
	below := func(a *pki.Authority, certs ...*x509.Certificate) tls.Certificate {
		return must(a.Leaf("SN-1"))(t).TLSWith(certs...)
	}
	short := must(v.root.Intermediate("Short", pki.WithTemplate(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })))(t)
	tooDeep := must(short.Intermediate("Too Deep"))(t)
	bound := must(v.root.Intermediate("Bound", pki.WithTemplate(constrainToDirectory)))(t)
	noCA := &pki.Authority{Certificate: leaf.Certificate, Key: leaf.Key}
	expired := must(v.root.Intermediate("Expired", pki.WithValidity(time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0))))(t)
	foreign := newVendor(t)
	for _, row := range []struct {
		name string
		cert tls.Certificate
		via  route
		want provision.Reason
	}{
		{"11 certificates", leaf.TLSWith(repeat(line, 10)...), viaEnvoy, provision.CertificateUnsupported},
		{"65 KiB", leaf.TLSWith(line, fat(t, 65<<10)), viaEnvoy, provision.CertificateUnsupported},
		{"DER garbage", garbled(leaf.TLSWith(line)), viaGRPC, provision.CertificateMalformed},
		{"a key of 56,000 bits", leaf.TLSWith(huge(t, v.root, v.line)), viaEnvoy, provision.CertificateUnsupported},
		{"nine cross-signed P-521", crossSigned(t, v.root.Certificate), viaEnvoy, provision.ChainUntrusted},
		{"path length broken", below(tooDeep, tooDeep.Certificate, short.Certificate), viaEnvoy, provision.ChainUntrusted},
		{"issued by a leaf", below(noCA, leaf.Certificate, line), viaEnvoy, provision.ChainUntrusted},
		{"directoryName constraint", below(bound, bound.Certificate), viaEnvoy, provision.ChainUntrusted},
		{"expired intermediate", below(expired, expired.Certificate), viaEnvoy, provision.CertificateExpired},
		{"no intermediate", leaf.TLSWith(), viaEnvoy, provision.ChainIncomplete},
		{"another root", below(foreign.line, foreign.line.Certificate, foreign.root.Certificate), viaEnvoy, provision.ChainUntrusted},
		{"self-signed", selfSigned(t), viaEnvoy, provision.ChainUntrusted},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.refuse(t, provision.HTTP, dial{cert: row.cert}.named(host(hub.Name)), row.via, row.want)
		})
	}
	w.empty(t, hub)
}

// badRequest: what Envoy never sends, from something that is none or is
// configured by hand.
func badRequest(t *testing.T, w *world) {
	v := newVendor(t)
	hub := w.hub(t, anchors(v.root.Certificate))
	good := as(v.device(t, "SN-1"))
	source := func(text string) func(*request) {
		return func(r *request) { r.attributes().GetSource().Certificate = escape(text) }
	}
	xfcc := func(change func(string) string) func(*request) {
		return func(r *request) {
			headers := r.attributes().GetRequest().GetHttp().GetHeaders()
			headers["x-forwarded-client-cert"] = change(headers["x-forwarded-client-cert"])
		}
	}
	pem := encodePEM(good.cert.Certificate[0])
	for _, row := range []struct {
		name  string
		spoil func(*request)
		want  provision.Reason
	}{
		{"empty PEM", source("\n"), provision.CertificateMalformed},
		{"empty block", source(begin + "\n" + end + "\n"), provision.CertificateMalformed},
		{"no PEM", source("MIIB"), provision.CertificateMalformed},
		{"broken PEM", source(pem[:len(pem)/2]), provision.CertificateMalformed},
		{"broken base64", source(strings.Replace(pem, "MII", "M*I", 1)), provision.CertificateMalformed},
		{"trailing bytes", source(pem + "x"), provision.CertificateMalformed},
		{"two certificates", source(pem + pem), provision.CertificateMalformed},
		{"broken URL encoding", func(r *request) { r.attributes().GetSource().Certificate = "%zz" }, provision.CertificateMalformed},
		{"missing source.certificate", func(r *request) { r.attributes().GetSource().Certificate = "" }, provision.ListenerMisconfigured},
		{"XFCC with two elements", xfcc(func(s string) string { return s + ",Hash=00" }), provision.ListenerMisconfigured},
		{"XFCC with a forged element first", xfcc(func(s string) string { return "Hash=00," + s }), provision.ListenerMisconfigured},
		{"XFCC with unbalanced quotes", xfcc(func(s string) string { return s[:len(s)-1] }), provision.ListenerMisconfigured},
		{"XFCC about another device", xfcc(func(string) string { return `Hash=` + strings.Repeat("0", 64) }), provision.ListenerMisconfigured},
		{"XFCC without its leaf", xfcc(func(string) string {
			return `Chain="` + escape(encodePEM(v.line.Certificate.Raw)) + `"`
		}), provision.ListenerMisconfigured},
		{"metadata twice", func(r *request) { r.md.Append("hubgate-hub", hub.Name, "other") }, provision.ListenerMisconfigured},
		{"two hubs", func(r *request) {
			r.md.Set("hubgate-hub", hub.Name)
			r.attributes().ContextExtensions = map[string]string{"hub": "other"}
		}, provision.ListenerMisconfigured},
		{"a fingerprint of something else", func(r *request) { r.md.Set("hubgate-chain-sha256", strings.Repeat("0", 64)) }, provision.ListenerMisconfigured},
		{"no certificate at all", func(r *request) {
			r.message = &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
				Http: &authv3.AttributeContext_HttpRequest{Scheme: "http"}}}}
			r.md = metadata.MD{}
		}, provision.NoCertificate},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRequest(provision.HTTP, good.named(host(hub.Name)))
			row.spoil(r)
			w.ask(t, r, row.want)
		})
	}
	w.empty(t, hub)
	// Unspoilt, it is as good as what Envoy sends.
	w.ask(t, newRequest(provision.HTTP, good.named(host(hub.Name))), provision.DeviceProvisioned)
}
