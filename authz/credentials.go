package authz

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/hubgate/hubgate/provision"
)

// credentials reads what a device brought to a connection without TLS: over HTTP
// itself, over TCP what the library says of its CONNECT. What makes no sense is
// none: it is the device's.
func (t *translation) credentials() *provision.Credentials {
	if t.conn.Protocol == provision.HTTP {
		return basic(eitherHeader(t.q.authorization, t.q.authorizationRaw))
	}
	user, hash, ok := strings.Cut(t.value(keyCredentials), ".")
	name, err := base64.RawURLEncoding.DecodeString(user)
	if !ok || err != nil {
		return nil
	}
	sum, err := base64.RawURLEncoding.DecodeString(hash)
	if err != nil || len(sum) != len(provision.SecretHash{}) {
		return nil
	}
	return known(string(name), provision.SecretHash(sum))
}

// basic reads HTTP's basic authentication (RFC 7617). The last colon ends the
// user name: a device's name may have some, a secret has none.
func basic(header string) *provision.Credentials {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return nil
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	colon := strings.LastIndexByte(string(pair), ':')
	if err != nil || colon < 0 {
		return nil
	}
	return known(string(pair[:colon]), provision.SecretHashOf(string(pair[colon+1:])))
}

// maxUser bounds a user name, in bytes, as it is logged where it names nobody: a
// hub, a slash and a device's name are shorter.
const maxUser = 512

// known gives credentials, nil if they can be nobody's.
func known(user string, secret provision.SecretHash) *provision.Credentials {
	if user == "" || len(user) > maxUser || !utf8.ValidString(user) {
		return nil
	}
	return &provision.Credentials{User: user, Secret: secret}
}
