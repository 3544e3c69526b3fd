// Command capture records what the real Envoy 1.40 sends to an authorization
// service, as the fixtures of package authz: one JSON file per case, with the
// gRPC metadata and the CheckRequest. Run it in this folder's parent:
//
//	go run ./capture
//
// The certificates are made anew in each run.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/process"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// recorder answers by the first label of SNI or host (allow unless it is deny
// or fault) and hands out what it was asked.
type recorder struct {
	authv3.UnimplementedAuthorizationServer
	seen chan fixture
}

type fixture struct {
	Metadata map[string][]string `json:"metadata"`
	Request  json.RawMessage     `json:"request"`
}

func (r *recorder) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	f := fixture{Metadata: map[string][]string{}}
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		if strings.HasPrefix(k, "hubgate-") {
			f.Metadata[k] = v
		}
	}
	f.Request, _ = protojson.Marshal(req)
	r.seen <- f
	name := req.GetAttributes().GetTlsSession().GetSni() + req.GetAttributes().GetRequest().GetHttp().GetHost()
	meta, _ := structpb.NewStruct(map[string]any{"device_name": "d-1", "decision_id": "abc"})
	header := []*corev3.HeaderValueOption{
		{Header: &corev3.HeaderValue{Key: "content-type", Value: "application/json"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
		{Header: &corev3.HeaderValue{Key: "retry-after", Value: "1"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
	}
	switch {
	case strings.HasPrefix(name, "deny"):
		return &authv3.CheckResponse{
			Status: &statuspb.Status{Code: int32(codes.PermissionDenied)}, DynamicMetadata: meta,
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
				Status: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden}, Headers: header, Body: `{"reason":"x"}`}},
		}, nil
	case strings.HasPrefix(name, "fault"):
		return &authv3.CheckResponse{
			Status: &statuspb.Status{Code: int32(codes.Unavailable)}, DynamicMetadata: meta,
			HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{
				Status: &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable}, Headers: header, Body: `{"reason":"x"}`}},
		}, nil
	}
	return &authv3.CheckResponse{
		Status: &statuspb.Status{}, DynamicMetadata: meta,
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			HeadersToRemove: []string{"x-forwarded-client-cert"},
			Headers: []*corev3.HeaderValueOption{
				{Header: &corev3.HeaderValue{Key: "x-device-name", Value: "J%C3%BCrg"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD},
			}}},
	}, nil
}

func run(ctx context.Context) error {
	envoy, err := envoybin.Path(ctx, os.Stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "capture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := makeCertificates(dir)
	if err != nil {
		return err
	}
	rec := &recorder{seen: make(chan fixture, 16)}
	g := grpc.NewServer()
	authv3.RegisterAuthorizationServer(g, rec)
	authz, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = g.Serve(authz) }()
	defer g.Stop()
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_ = http.Serve(backend, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "backend sees %v\n", r.Header)
		}))
	}()

	ports, err := process.FreePorts(len(listeners))
	if err != nil {
		return err
	}
	config, err := bootstrap(dir, authz.Addr().(*net.TCPAddr).Port, backend.Addr().(*net.TCPAddr).Port, ports)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	p, err := process.Start(ctx, process.Spec{
		Name: "envoy", Path: envoy, Args: []string{"-c", file, "--use-dynamic-base-id", "-l", "warn", "--concurrency", "1"},
		Ready: process.Accepts(fmt.Sprintf("127.0.0.1:%d", ports[0])),
	})
	if err != nil {
		return err
	}
	defer p.Kill()
	time.Sleep(time.Second)

	sessions := tls.NewLRUClientSessionCache(8)
	for _, k := range cases(c, sessions) {
		l := 0
		for i := range listeners {
			if listeners[i].name == k.listener {
				l = i
			}
		}
		address, network := fmt.Sprintf("127.0.0.1:%d", ports[l]), "tcp"
		if listeners[l].pipe {
			address, network = filepath.Join(dir, "pipe.sock"), "unix"
		}
		answer, err := k.connect(network, address)
		var f fixture
		select {
		case f = <-rec.seen:
		case <-time.After(2 * time.Second):
			fmt.Printf("%s: no check: %v %q\n", k.name, err, answer)
			continue
		}
		fmt.Printf("%s: %v\n%s\n\n", k.name, err, answer)
		if k.name == "" {
			continue
		}
		var pretty strings.Builder
		e := json.NewEncoder(&pretty)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(f); err != nil {
			return err
		}
		if err := os.WriteFile(k.name+".json", []byte(pretty.String()), 0o644); err != nil {
			return err
		}
	}
	_ = p.Stop() // it writes its access log then
	_, err = io.WriteString(os.Stdout, p.Output())
	return err
}
