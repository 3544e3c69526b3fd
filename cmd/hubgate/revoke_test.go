package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/trust"
)

// TestRevokingByHand: by serial, key, certificate and device, and by a list, on a
// declared hub.
func TestRevokingByHand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.chain("line.pem", s.factory.line.Certificate)
	writeFile(t, s.dir, "hubgate.yaml", []byte(factoryHub+"    intermediates: [line.pem]\n"))
	s.serve()
	does := func(want string, args ...string) string {
		t.Helper()
		out := s.hubgate(args...).ok(t)
		if !strings.Contains(out, want) {
			t.Errorf("%v printed\n%s\nwant %q", args, out, want)
		}
		return out
	}
	refuses := func(code int, want string, args ...string) {
		t.Helper()
		if got := s.hubgate(args...); got.code != code || !strings.Contains(got.err, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
	line := s.factory.line
	leaf := s.factory.device(t, "SN-0001")[0]
	file := s.chain("leaf.pem", leaf)
	issuer := trust.KeyHashOf(line.Certificate).String()

	does("Nothing is revoked by hand", "cert", "list", "factory")
	does("has no revocation list", "crl", "list", "factory")
	refuses(exitUsage, "give one of", "cert", "revoke", "factory")
	refuses(exitUsage, "go together", "cert", "revoke", "factory", "--serial", "01")
	refuses(exitError, "is no serial number", "cert", "revoke", "factory", "--serial", "xyz", "--issuer", issuer)
	refuses(exitConflict, "a trust anchor of hub factory", "cert", "revoke", "factory", "--key", trust.KeyHashOf(s.factory.root.Certificate).String())
	refuses(exitNotFound, "not found", "cert", "revoke", "factory", "--device", "SN-nobody")
	refuses(exitNotFound, "not found", "cert", "unrevoke", "factory", strings.Repeat("0", 32))

	does("refuses it from now on", "cert", "revoke", "factory", "--serial", fmt.Sprintf("%X", leaf.SerialNumber), "--issuer", trust.FingerprintOf(line.Certificate).String(), "--reason", "stolen")
	does("refuses it from now on", "cert", "revoke", "factory", "--certificate", file) // the same, which is no error
	does("stolen", "cert", "list", "factory")
	if got := s.hubgate("explain", "--cert", file, "--hub", "factory"); got.code != exitRefused || !strings.Contains(got.out, "certificate_revoked") {
		t.Errorf("explain: %+v", got)
	}
	var list admin.Revocations
	if err := json.Unmarshal([]byte(does("", "cert", "list", "factory", "-o", "json")), &list); err != nil || len(list.Revocations) != 1 {
		t.Fatalf("%v: %+v", err, list)
	}
	if v := list.Revocations[0]; v.Issuer != issuer || v.Serial != fmt.Sprintf("%x", leaf.SerialNumber) || v.Reason != "stolen" {
		t.Errorf("%+v", v)
	}
	does("is lifted", "cert", "unrevoke", "factory", list.Revocations[0].ID)
	does("refuses it from now on", "cert", "revoke", "factory", "--key", trust.KeyHashOf(leaf).String())

	crl := func(number int64) string {
		der, err := line.CRL(number, []*x509.Certificate{leaf})
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, s.dir, fmt.Sprint("line-", number, ".crl"), der)
	}
	refuses(exitError, "the CRL is not usable", "crl", "add", "factory", file)
	does("goes by list 2 of", "crl", "add", "factory", crl(2))
	refuses(exitConflict, "its number is 1, and was 2", "crl", "add", "factory", crl(1))
	does(issuer, "crl", "list", "factory")
	refuses(exitConflict, "is declared in", "crl", "sources", "factory", "https://ca.example.com/line.crl")
	does("It is removed", "crl", "remove", "factory", issuer)
	does("has no revocation list", "crl", "list", "factory")

	// Of a stored hub, the sources can be set.
	does("is created", "hub", "create", "plant")
	refuses(exitError, "is no address of a CRL", "crl", "sources", "plant", "file:///etc/passwd")
	does("from https://ca.example.com/line.crl", "crl", "sources", "plant", "https://ca.example.com/line.crl")
	does("Source: https://ca.example.com/line.crl", "crl", "list", "plant")
	does("from nowhere", "crl", "sources", "plant")
	other, err := pki.NewRoot("Other")
	if err != nil {
		t.Fatal(err)
	}
	der, err := other.CRL(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	refuses(exitError, "none of the CAs known", "crl", "add", "plant", writeFile(t, s.dir, "other.crl", der))
}
