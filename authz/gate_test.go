package authz

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/boltstore"
)

// realGate is a Gate on an embedded store with the hub "factory", which
// trusts that anchor.
func realGate(t *testing.T, anchor []byte) *provision.Gate {
	t.Helper()
	store, err := boltstore.Open(boltstore.Config{Path: filepath.Join(t.TempDir(), "hubgate.db"), Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stored, gated := make(chan error, 1), make(chan error, 1)
	go func() { stored <- store.Run(context.Background()) }()
	gate, err := provision.NewGate(provision.GateConfig{Store: store, Domain: "iot.example.com", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	go func() { gated <- gate.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-gated; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if err := <-stored; err != nil {
			t.Error(err)
		}
	})
	if err := gate.Declare(ctx, []provision.Hub{{
		ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "test",
		AutoProvisioning: true, Anchors: [][]byte{anchor},
	}}); err != nil {
		t.Fatal(err)
	}
	for gate.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	return gate
}

// What Envoy sends, through the wire and the real Gate, and back: a device
// creates itself on its first connection and is known from then on, resumed and
// over TCP, where the intermediate that HTTP taught the hub fills the chain.
func TestRealGate(t *testing.T) {
	first := readFixture(t, "http-three-certificates")
	presented := first.connection(t).Presented
	r := start(t, Config{Gate: realGate(t, presented[len(presented)-1])}, "127.0.0.1:0")
	conn := r.dial(t, nil)
	device := provision.DeviceIDOf(provision.DeclaredHubID("factory"), "sensor-0001").String()
	for _, tt := range []struct {
		fixture string
		want    provision.Reason
	}{
		{"tcp", provision.ChainIncomplete}, // nobody knows the intermediate yet
		{"http-no-certificate", provision.NoCertificate},
		{"http-plaintext", provision.NoCertificate},
		{"http-bare-listener", provision.ListenerMisconfigured},
		{"http-not-sanitised", provision.ListenerMisconfigured},
		{"http-three-certificates", provision.DeviceProvisioned},
		{"http-resumed", provision.DeviceKnown},
		{"http-leaf-only", provision.DeviceKnown},
		{"http-forged-headers", provision.DeviceKnown},
		{"http-no-sni", provision.DeviceKnown},
		{"http-hub-hint", provision.DeviceKnown},
		{"tcp", provision.DeviceKnown},
		{"tcp-hub-hint", provision.DeviceKnown},
		{"tcp-no-certificate", provision.NoCertificate},
		{"tcp-plaintext", provision.NoCertificate},
	} {
		resp := check(t, conn, readFixture(t, tt.fixture))
		if got := reasonOf(resp); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.fixture, got, tt.want)
			continue
		}
		checkAnswer(t, tt.fixture, resp, tt.want.Outcome(), device)
	}
}

// checkAnswer checks that an answer has the form that its outcome asks for.
func checkAnswer(t *testing.T, name string, resp *authv3.CheckResponse, outcome provision.Outcome, device string) {
	t.Helper()
	fields := resp.GetDynamicMetadata().GetFields()
	if fields["decision_id"].GetStringValue() == "" {
		t.Errorf("%s: no decision ID", name)
	}
	switch outcome {
	case provision.Allow:
		if resp.GetStatus().GetCode() != 0 || fields["device_id"].GetStringValue() != device {
			t.Errorf("%s: %v, want device %s", name, resp, device)
		}
	case provision.Deny:
		if resp.GetStatus().GetCode() == 0 || resp.GetErrorResponse() != nil || len(fields) != 2 {
			t.Errorf("%s: %v, want a denial", name, resp)
		}
	default:
		if resp.GetStatus().GetCode() == 0 || resp.GetErrorResponse() == nil || len(fields) != 2 {
			t.Errorf("%s: %v, want a fault", name, resp)
		}
	}
}
