package authz

import (
	"reflect"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// generated reads with the generated types what a question holds.
func generated(req *authv3.CheckRequest) question {
	a := req.GetAttributes()
	h := a.GetRequest().GetHttp()
	q := question{
		isHTTP: h != nil, host: h.GetHost(), scheme: h.GetScheme(), forwarded: h.GetHeaders()[headerXFCC],
		authorization:        h.GetHeaders()[headerAuthorization],
		certificate:          a.GetSource().GetCertificate(),
		sourceAddress:        a.GetSource().GetAddress().GetSocketAddress().GetAddress(),
		sourcePrincipal:      a.GetSource().GetPrincipal(),
		destinationPrincipal: a.GetDestination().GetPrincipal(),
		sni:                  a.GetTlsSession().GetSni(),
		hub:                  a.GetContextExtensions()[keyHubExtension],
	}
	for _, header := range h.GetHeaderMap().GetHeaders() {
		if equalHeader(header.GetKey(), headerXFCC) {
			q.forwardedRaw = append(q.forwardedRaw, string(header.GetRawValue()))
		}
		if equalHeader(header.GetKey(), headerAuthorization) {
			q.authorizationRaw = append(q.authorizationRaw, string(header.GetRawValue()))
		}
	}
	return q
}

// equalHeader tells whether a header has that name, without strings.EqualFold,
// which is what is tested.
func equalHeader(key, name string) bool {
	if len(key) != len(name) {
		return false
	}
	for i := range len(key) {
		c := key[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// oddQuestions are messages that mean what they mean only by the rules of
// protobuf: what comes twice, what is unknown, what replaces what.
func oddQuestions(t testing.TB) map[string][]byte {
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	attributes := func(a *authv3.AttributeContext) []byte { return marshal(&authv3.CheckRequest{Attributes: a}) }
	peer := func(p *authv3.AttributeContext_Peer) []byte { return attributes(&authv3.AttributeContext{Source: p}) }
	socket := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "192.0.2.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1}}}}
	port := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1}}}}
	pipe := &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}}
	first := peer(&authv3.AttributeContext_Peer{Certificate: "one", Principal: "CN=one"})
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	odd := map[string][]byte{
		"empty":              nil,
		"source twice":       join(first, peer(&authv3.AttributeContext_Peer{Certificate: "two"})),
		"address, then pipe": join(peer(&authv3.AttributeContext_Peer{Address: socket}), peer(&authv3.AttributeContext_Peer{Address: pipe})),
		"pipe, then port":    join(peer(&authv3.AttributeContext_Peer{Address: socket}), peer(&authv3.AttributeContext_Peer{Address: pipe}), peer(&authv3.AttributeContext_Peer{Address: port})),
		"address, then port": join(peer(&authv3.AttributeContext_Peer{Address: socket}), peer(&authv3.AttributeContext_Peer{Address: port})),
		"empty http":         attributes(&authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{}}}),
		"no http":            attributes(&authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}),
		"extensions twice":   join(attributes(&authv3.AttributeContext{ContextExtensions: map[string]string{"hub": "a"}}), attributes(&authv3.AttributeContext{ContextExtensions: map[string]string{"hub": "b", "x": "y"}})),
		"unknown fields":     join(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7), first, protowire.AppendFixed32(protowire.AppendTag(nil, 98, protowire.Fixed32Type), 7)),
		"another wire type":  join(first, protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)),
		"a group":            join(protowire.AppendTag(protowire.AppendTag(nil, 9, protowire.StartGroupType), 9, protowire.EndGroupType), first),
		"cut":                first[:len(first)-1],
		"length beyond":      {0x0a, 0x7f},
		"no UTF-8":           peer2("\xff"),
		"tag zero":           {0x02, 0x00},
		"header in any case": attributes(&authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				{Key: "X-Forwarded-Client-Cert", RawValue: []byte("a\xff")}, {Key: "x-forwarded-client-cert", Value: "ignored"}, {Key: "x", RawValue: []byte("b")}, {Key: "Authorization", RawValue: []byte("c")}}}}}}),
		"authorization": attributes(&authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Headers: map[string]string{"authorization": "Basic YTpi", "x-forwarded-client-cert": "Hash=00"}}}}),
	}
	return odd
}

// peer2 is a source with a principal that no generated type would marshal.
func peer2(principal string) []byte {
	wrap := func(number protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
	}
	return wrap(1, wrap(1, wrap(4, []byte(principal))))
}

// same compares a question with what the generated types make of the message:
// wherever those read it at all, both read the same.
func same(t *testing.T, message []byte) {
	t.Helper()
	var q question
	err := q.parse(string(message))
	req := &authv3.CheckRequest{}
	if proto.Unmarshal(message, req) != nil {
		return
	}
	if err != nil {
		t.Errorf("refused what the generated type reads: %v", err)
	}
	if want := generated(req); !reflect.DeepEqual(q, want) {
		t.Errorf("got  %+v\nwant %+v", q, want)
	}
}

func TestQuestion(t *testing.T) {
	t.Parallel()
	for name, message := range oddQuestions(t) {
		t.Run(name, func(t *testing.T) { same(t, message) })
	}
	for _, refused := range []string{"cut", "length beyond", "no UTF-8", "tag zero"} {
		if new(question).parse(string(oddQuestions(t)[refused])) == nil {
			t.Errorf("%s is not refused", refused)
		}
	}
}

func FuzzQuestion(f *testing.F) {
	for _, message := range oddQuestions(f) {
		f.Add(message)
	}
	for _, name := range []string{"http-three-certificates", "http-raw-headers", "http-hub-hint", "http-pipe", "tcp"} {
		b, err := proto.Marshal(readFixture(f, name).req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(same)
}
