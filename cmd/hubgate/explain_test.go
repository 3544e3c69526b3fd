package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/internal/pki"
)

// TestExplain holds what is said of good and bad chains, by a running hubgate
// and by the configuration alone, which have to say the same.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve()
	draft := newSite(t)
	draft.factory = s.factory
	writeFile(t, draft.dir, "factory.pem", pki.EncodeCertificates(s.factory.root.Certificate))

	day := 24 * time.Hour
	good := s.factory.device(t, "SN-0001")
	expired := s.factory.device(t, "SN-0002", pki.WithValidity(time.Now().Add(-30*day), time.Now().Add(-day)))
	foreign := newFactory(t, "Foreign").device(t, "SN-0003")
	for _, tt := range []struct {
		name string
		code int
		args []string
	}{
		{"good", exitOK, []string{"--cert", s.chain("good.pem", good...)}},
		{"expired", exitRefused, []string{"--cert", s.chain("expired.pem", expired...)}},
		{"missing-intermediate", exitRefused, []string{"--cert", s.chain("leaf.pem", good[0]), "--sni", "factory.iot.example.com"}},
		{"foreign", exitRefused, []string{"--cert", s.chain("foreign.pem", foreign...), "--hub", "factory"}},
		{"unknown-hub", exitRefused, []string{"--cert", s.chain("good2.pem", good...), "--sni", "other.iot.example.com"}},
		{"other-authority", exitRefused, []string{"--cert", s.chain("good3.pem", good...), "--protocol", "http", "--sni", "factory.iot.example.com", "--authority", "other.iot.example.com"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"explain"}, tt.args...)
			online := s.hubgate(args...)
			offline := draft.hubgate(append(args, "--offline")...)
			if online.code != tt.code || online.err != "" {
				t.Fatalf("exit code %d, want %d\n%s%s", online.code, tt.code, online.out, online.err)
			}
			if offline.err != "Devices were not looked up: there is no embedded store to read.\n" {
				t.Errorf("offline said %q", offline.err)
			}
			offline.err = ""
			if online != offline {
				t.Errorf("offline differs: %+v\nfrom %+v", offline, online)
			}
			golden(t, "explain-"+tt.name+".txt", online.out)
		})
	}
}

func TestExplainJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve()
	expired := s.factory.device(t, "SN-0002", pki.WithValidity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	result := s.hubgate("explain", "--cert", s.chain("expired.pem", expired...), "-o", "json")
	var e admin.Explanation
	if err := json.Unmarshal([]byte(result.out), &e); err != nil || result.code != exitRefused {
		t.Fatalf("exit code %d, %v\n%s", result.code, err, result.out)
	}
	if e.Decision != "deny" || e.Reason != "certificate_expired" || e.HubName != "factory" || e.Remedy == "" ||
		e.Certificate == nil || e.Certificate.Subject != "CN=SN-0002" {
		t.Errorf("explained as %+v", e)
	}
	// It was a dry run.
	if out := s.hubgate("device", "list", "factory").ok(t); !strings.Contains(out, "has no devices") {
		t.Errorf("a device appeared:\n%s", out)
	}
}

// TestExplainAKnownDevice: offline, the embedded store that nobody serves tells
// of devices.
func TestExplainAKnownDevice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	chain := s.factory.device(t, "SN-0001")
	if got := v.connect(chain); got != "device_provisioned" {
		t.Fatal(got)
	}
	file := s.chain("good.pem", chain...)
	if out := s.hubgate("explain", "--cert", file).ok(t); !strings.Contains(out, "(device_known)") {
		t.Errorf("printed\n%s", out)
	}
	s.hubgate("explain", "--cert", file, "--offline").fails(t, exitError,
		s.inUse()+": leave --offline out\n")
	v.end()
	if out := s.hubgate("explain", "--cert", file, "--offline").ok(t); !strings.Contains(out, "(device_known)") {
		t.Errorf("printed\n%s", out)
	}
}

// TestExplainWithoutTLS: by user name and secret, and by nothing else; the secret
// is told nobody.
func TestExplainWithoutTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.serve()
	s.hubgate("device", "create", "factory", "SN-1").ok(t)
	secret := strings.TrimSpace(s.hubgate("device", "secret", "create", "factory", "SN-1").out)
	file := writeFile(t, s.dir, "sn-1.secret", []byte(secret+"\n"))
	wrong := writeFile(t, s.dir, "wrong.secret", []byte("wrong"))
	is := func(reason string, args ...string) {
		t.Helper()
		result := s.hubgate(append([]string{"explain"}, args...)...)
		if !strings.Contains(result.out, "("+reason+")") || (result.code == exitOK) != (reason == "device_known") {
			t.Errorf("%q: exit code %d, want %s\n%s%s", args, result.code, reason, result.out, result.err)
		}
	}
	is("insecure_not_allowed", "--username", "factory/SN-1", "--secret-file", file)
	s.hubgate("device", "update", "factory", "SN-1", "--allow-insecure").ok(t)
	is("device_known", "--username", "factory/SN-1", "--secret-file", file)
	is("device_known", "--username", "SN-1", "--hub", "factory", "--secret-file", file)
	is("secret_invalid", "--username", "factory/SN-1", "--secret-file", wrong)
	is("no_certificate", "--username", "factory/SN-1")
	is("insecure_not_allowed", "--username", "factory/SN-2", "--secret-file", file)
	s.hubgate("explain", "--username", "factory/SN-1", "--cert", file).fails(t, exitUsage,
		"hubgate: --username is for a connection without TLS, on which there is no --cert\nSee `hubgate explain --help`.\n")
	v.end()
	if strings.Contains(v.log.String(), secret) {
		t.Error("hubgate's log has the secret")
	}
}
