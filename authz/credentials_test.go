package authz

import (
	"encoding/base64"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/hubgate/hubgate/provision"
)

func basicOf(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }

func tcpOf(user, secret string) string {
	hash := provision.SecretHashOf(secret)
	return base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + base64.RawURLEncoding.EncodeToString(hash[:])
}

func TestCredentialsOfHTTP(t *testing.T) {
	for header, want := range map[string][2]string{
		basicOf("factory/SN-1:secret"):           {"factory/SN-1", "secret"},
		"bAsIc " + basicOf("SN-1:secret")[6:]:    {"SN-1", "secret"},
		basicOf("factory/aa:bb:cc:secret"):       {"factory/aa:bb:cc", "secret"}, // a name with colons
		basicOf("factory/SN-1:"):                 {"factory/SN-1", ""},
		basicOf("f/größe:s"):                     {"f/größe", "s"},
		"":                                       {},
		"Basic":                                  {},
		"Basic !":                                {},
		basicOf("no colon"):                      {},
		basicOf(":secret"):                       {},
		basicOf("\xff:secret"):                   {},
		basicOf(strings.Repeat("u", 513) + ":s"): {},
		"Bearer " + basicOf("a:b")[6:]:           {},
		basicOf("a:b") + "," + basicOf("c:d"):    {}, // two headers, as Envoy joins them
		basicOf("a:b") + ", " + basicOf("a:b"):   {},
		"Digest username=\"factory/SN-1\", x=y":  {},
	} {
		for _, raw := range []bool{false, true} {
			x := readFixture(t, "http-plaintext").translation(t)
			if raw {
				x.q.authorizationRaw = []string{header}
			} else {
				x.q.authorization = header
			}
			got := x.connection()
			if got.Problem != nil || !sameCredentials(got.Credentials, want) {
				t.Errorf("%q (raw: %t): %+v, %v, want %q", header, raw, got.Credentials, got.Problem, want)
			}
		}
	}
}

func sameCredentials(got *provision.Credentials, want [2]string) bool {
	if want[0] == "" {
		return got == nil
	}
	return got != nil && *got == provision.Credentials{User: want[0], Secret: provision.SecretHashOf(want[1])}
}

func TestCredentialsOfTCP(t *testing.T) {
	for value, want := range map[string][2]string{
		tcpOf("factory/SN-1", "secret"):        {"factory/SN-1", "secret"},
		tcpOf("factory/SN-1", ""):              {"factory/SN-1", ""},
		"":                                     {},
		"-":                                    {}, // what Envoy prints where there is none
		"ZmFjdG9yeQ":                           {},
		"ZmFjdG9yeQ.":                          {},
		"ZmFjdG9yeQ.c2hvcnQ":                   {},
		"!." + tcpOf("", "secret"):             {},
		tcpOf("", "secret"):                    {},
		tcpOf("\xff", "secret"):                {},
		tcpOf("factory/SN-1", "secret") + ".x": {},
	} {
		f := readFixture(t, "tcp-plaintext")
		f.md.Set(keyCredentials, value)
		got := f.translation(t).connection()
		if got.Problem != nil || !sameCredentials(got.Credentials, want) {
			t.Errorf("%q: %+v, %v, want %q", value, got.Credentials, got.Problem, want)
		}
	}
	f := readFixture(t, "tcp-plaintext")
	f.md.Append(keyCredentials, tcpOf("a/b", "c"), tcpOf("a/d", "e"))
	if got := f.translation(t).connection(); got.Problem == nil || got.Problem.Reason != provision.ListenerMisconfigured || got.Credentials != nil {
		t.Errorf("two of them: %+v, %+v", got.Credentials, got.Problem)
	}
}

// TestCredentialsAreNotReadWithTLS: with TLS they are for the backend, and HTTP
// has its own.
func TestCredentialsAreNotReadWithTLS(t *testing.T) {
	for _, name := range []string{
		"http-three-certificates", "http-no-certificate", "http-no-sni", "http-bare-listener", "http-raw-headers",
		"tcp", "tcp-no-certificate", "tcp-bare-listener", "tcp-hub-hint",
	} {
		f := readFixture(t, name)
		if f.md == nil {
			f.md = metadata.MD{}
		}
		f.md.Set(keyCredentials, tcpOf("factory/SN-1", "secret"))
		x := f.translation(t)
		x.q.authorization = basicOf("factory/SN-1:secret")
		if got := x.connection(); !got.TLS || got.Credentials != nil {
			t.Errorf("%s: TLS %t, credentials %+v", name, got.TLS, got.Credentials)
		}
	}
	f := readFixture(t, "http-plaintext")
	f.md.Set(keyCredentials, tcpOf("factory/SN-1", "secret"))
	if got := f.translation(t).connection(); got.Credentials != nil {
		t.Errorf("HTTP took those of TCP: %+v", got.Credentials)
	}
}

// FuzzCredentials: whatever is sent is read, or is none, and never panics.
func FuzzCredentials(f *testing.F) {
	f.Add(basicOf("factory/SN-1:secret"), tcpOf("factory/SN-1", "secret"))
	f.Add("Basic !", "!.!")
	f.Fuzz(func(t *testing.T, header, value string) {
		for _, tr := range []*translation{
			{q: question{authorization: header}, conn: provision.Connection{Protocol: provision.HTTP}},
			{md: metadata.MD{keyCredentials: {value}}, conn: provision.Connection{Protocol: provision.TCP}},
		} {
			if c := tr.credentials(); c != nil && c.User == "" {
				t.Errorf("%q, %q: credentials of nobody", header, value)
			}
		}
	})
}
