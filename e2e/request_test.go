package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/hubgate/hubgate/provision"
)

const (
	begin = "-----BEGIN CERTIFICATE-----"
	end   = "-----END CERTIFICATE-----"
)

// request is a check as Envoy would make it.
type request struct {
	protocol provision.Protocol
	md       metadata.MD
	message  *authv3.CheckRequest
}

func (r *request) attributes() *authv3.AttributeContext { return r.message.GetAttributes() }

// newRequest is the check of a device that Envoy let in.
func newRequest(p provision.Protocol, d dial) *request {
	chain := d.cert.Certificate
	leaf := sha256.Sum256(chain[0])
	cert := escape(encodePEM(chain[0]))
	r := &request{
		protocol: p,
		md: metadata.Pairs("hubgate-node", "e2e", "hubgate-connection", "1",
			"hubgate-source", "192.0.2.7", "hubgate-chain-sha256", hex.EncodeToString(leaf[:])),
		message: &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source:     &authv3.AttributeContext_Peer{Certificate: cert},
			TlsSession: &authv3.AttributeContext_TLSSession{Sni: d.sni},
		}},
	}
	if p == provision.HTTP {
		r.attributes().Request = &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: http.MethodGet, Scheme: "https", Path: "/", Host: d.sni,
			Headers: map[string]string{"x-forwarded-client-cert": `Hash=` + hex.EncodeToString(leaf[:]) +
				`;Cert="` + cert + `";Chain="` + escape(encodePEM(chain...)) + `"`},
		}}
	}
	return r
}

func encodePEM(ders ...[]byte) string {
	var b strings.Builder
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.String()
}

// escape is how Envoy writes PEM.
func escape(text string) string {
	return strings.NewReplacer("%", "%25", " ", "%20", "\n", "%0A", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text)
}

// ask asks hubgate at its own port and checks the answer.
func (w *world) ask(t *testing.T, r *request, want provision.Reason) {
	t.Helper()
	conn, err := grpc.NewClient(w.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := metadata.NewOutgoingContext(timeout(t, patience), r.md)
	response, err := authv3.NewAuthorizationClient(conn).Check(ctx, r.message)
	if err != nil {
		t.Fatal(err)
	}
	fields := response.GetDynamicMetadata().GetFields()
	if got := fields["reason"].GetStringValue(); got != string(want) {
		t.Fatalf("%s: %s, want %s", r.protocol, got, want)
	}
	allowed := want.Outcome() == provision.Allow
	if (response.GetStatus().GetCode() == 0) != allowed {
		t.Fatalf("%s: status %v", r.protocol, response.GetStatus())
	}
	if allowed || r.protocol == provision.TCP {
		return
	}
	refused, status := response.GetDeniedResponse(), http.StatusForbidden
	if want.Outcome() == provision.Fault {
		refused, status = response.GetErrorResponse(), http.StatusServiceUnavailable
	}
	var body refusal
	if err := strictly([]byte(refused.GetBody()), &body); err != nil {
		t.Fatal(err)
	}
	if body.Reason != string(want) || body.Message != want.Message() || body.Decision == "" || int(refused.GetStatus().GetCode()) != status {
		t.Errorf("the device would get %v %+v", refused.GetStatus(), body)
	}
}

// refuse brings bad input before hubgate and checks that it is refused for that
// reason. connect checks what the device gets.
func (w *world) refuse(t *testing.T, p provision.Protocol, d dial, via route, want provision.Reason) {
	t.Helper()
	if via == viaEnvoy {
		w.expect(t, p, d, want)
		return
	}
	leaf := d.cert.Certificate[0]
	before := len(w.witness.of(leaf))
	var err error
	if p == provision.HTTP {
		_, err = w.get(t.Context(), d)
	} else {
		_, err = w.converse(t.Context(), d)
	}
	if asked := len(w.witness.of(leaf)) - before; err == nil || asked != 0 {
		t.Errorf("%s: Envoy asked %d times, and the device got %v: it needs no gRPC", p, asked, err)
	}
	w.ask(t, newRequest(p, d), want)
}
