package authz

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hubgate/hubgate/provision"
)

// fixture is a check as the real Envoy sent it; testdata/capture records them.
type fixture struct {
	md  metadata.MD
	req *authv3.CheckRequest
}

func readFixture(t testing.TB, name string) fixture {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Metadata metadata.MD
		Request  json.RawMessage
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	f := fixture{md: file.Metadata, req: &authv3.CheckRequest{}}
	if err := protojson.Unmarshal(file.Request, f.req); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// translation is the check on its way into the domain.
func (f fixture) translation(t testing.TB) *translation {
	t.Helper()
	return f.translationOf(t, string(f.message(t)))
}

// message is the request as Envoy encodes it.
func (f fixture) message(t testing.TB) []byte {
	t.Helper()
	b, err := proto.Marshal(f.req)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f fixture) translationOf(t testing.TB, message string) *translation {
	t.Helper()
	x := &translation{md: f.md}
	if err := x.q.parse(message); err != nil {
		t.Fatal(err)
	}
	return x
}

// connection is the check as the Gate is asked about it.
func (f fixture) connection(t testing.TB) provision.Connection {
	t.Helper()
	c := f.translation(t).connection()
	if c.Evidence != nil {
		c.Evidence.Read(&c)
		c.Evidence = nil
	}
	return c
}

// decodeReply reads a reply as Envoy does.
func decodeReply(t testing.TB, r reply) *authv3.CheckResponse {
	t.Helper()
	resp := &authv3.CheckResponse{}
	if err := proto.Unmarshal(r, resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

func (f fixture) attributes() *authv3.AttributeContext { return f.req.GetAttributes() }

func (f fixture) headers() map[string]string {
	return f.attributes().GetRequest().GetHttp().GetHeaders()
}

// certificate parses one URL-encoded PEM certificate the way the rest of the
// world does.
func certificate(t testing.TB, encoded string) *x509.Certificate {
	t.Helper()
	text, err := url.PathUnescape(encoded)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		t.Fatalf("not one PEM block: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// encodePEM writes certificates the way Envoy does.
func encodePEM(ders ...[]byte) string {
	var b strings.Builder
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return envoyEscape(b.String())
}

func envoyEscape(text string) string {
	return strings.NewReplacer("%", "%25", " ", "%20", "\n", "%0A", "+", "%2B", "/", "%2F", "=", "%3D").Replace(text)
}
