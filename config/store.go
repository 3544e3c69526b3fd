package config

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
)

func (l *loader) store(top *section) Store {
	var s Store
	s.Path = l.resolve(DefaultStore)
	if top.has("store") {
		s = l.storeURL(top, top.str("store"))
	}
	if top.has("store_password_file") {
		s.Password = l.secret(top, "store_password_file")
	}
	if top.has("store_ca_file") {
		s.CAFile = l.storeCA(top, "store_ca_file")
	}
	l.redis(top, &s)
	if s.Path == "" {
		return s
	}
	for _, key := range []string{"store_password_file", "store_ca_file", "redis"} {
		if top.has(key) {
			top.problem(key, "the embedded store has no use for it: remove it")
		}
	}
	return s
}

const storeForms = "write bolt:///var/lib/hubgate/hubgate.db, bolt:hubgate.db (beside this file), " +
	"redis://host:6379 (rediss:// with TLS), redis+sentinel://host,host/master, redis+cluster://host,host or unix:///run/redis.sock"

// storeURL reads the store's URL. Of a Redis URL it looks at what can be told
// without Redis; the store knows the rest. No message repeats the URL: it may
// hold a password.
func (l *loader) storeURL(top *section, text string) Store {
	scheme, rest, _ := strings.Cut(text, ":")
	authority, isURL := strings.CutPrefix(rest, "//")
	path := ""
	if i := strings.IndexAny(authority, "/?#"); isURL && i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	userinfo, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i], authority[i+1:]
	}
	switch {
	case text == "":
	case scheme == "bolt":
		if !isURL {
			path = rest
		}
		if isURL && authority != "" || path == "" || strings.ContainsAny(path, "?#") || strings.HasSuffix(path, "/") {
			top.problem("store", "names no file: write bolt:///absolute/path.db, or bolt:name.db for a file beside this one")
			return Store{}
		}
		return Store{Path: l.resolve(path)}
	case !slices.Contains(redisSchemes, scheme) || !isURL:
		top.problem("store", "is no store: %s", storeForms)
	case strings.Contains(userinfo, ":"):
		top.problem("store", "holds a password: write it into a file and name that in store_password_file")
	case strings.HasPrefix(scheme, "redis") && hosts == "", scheme == "unix" && (hosts != "" || len(path) < 2):
		top.problem("store", "names no server: %s", storeForms)
	default:
		return Store{URL: text}
	}
	return Store{}
}

var redisSchemes = []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster", "unix"}

// secret reads a file that holds nothing but a secret; a final line break is
// not part of it.
func (l *loader) secret(top *section, key string) Secret {
	path := top.str(key)
	if path == "" {
		return ""
	}
	data, err := l.read(l.resolve(path))
	if err != nil {
		top.problem(key, "%s: %s", path, plain(err))
		return ""
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		top.problem(key, "%s does not hold exactly one line, the password", path)
	}
	return Secret(secret)
}

func (l *loader) storeCA(top *section, key string) string {
	path := top.str(key)
	if path == "" {
		return ""
	}
	data, err := l.read(l.resolve(path))
	switch {
	case err != nil:
		top.problem(key, "%s: %s", path, plain(err))
	case !x509.NewCertPool().AppendCertsFromPEM(data):
		top.problem(key, "%s holds no certificate in PEM form", path)
	}
	return l.resolve(path)
}

// maxWaitReplicas is more replicas than a Redis master usefully has.
const maxWaitReplicas = 16

// redis reads what only a Redis store has.
func (l *loader) redis(top *section, s *Store) {
	r := top.sub("redis", "wait_replicas", "sentinel_username", "sentinel_password_file", "cert", "key")
	if r == nil {
		return
	}
	s.WaitReplicas = r.integer("wait_replicas", 0, maxWaitReplicas)
	s.SentinelUsername = r.str("sentinel_username")
	if r.has("sentinel_password_file") {
		s.SentinelPassword = l.secret(r, "sentinel_password_file")
	}
	if r.has("cert") != r.has("key") {
		r.problem("cert", "cert and key go together: give both, or neither")
		return
	}
	if r.has("cert") {
		s.Cert, s.Key = l.redisKeyPair(r)
	}
}

func (l *loader) redisKeyPair(r *section) (cert, key string) {
	var texts [2][]byte
	for i, name := range []string{"cert", "key"} {
		path := r.str(name)
		if path == "" {
			return "", ""
		}
		data, err := l.read(l.resolve(path))
		if err != nil {
			r.problem(name, "%s: %s", path, plain(err))
			return "", ""
		}
		texts[i] = data
	}
	if _, err := tls.X509KeyPair(texts[0], texts[1]); err != nil {
		r.problem("cert", "the certificate and its key: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	return l.resolve(r.str("cert")), l.resolve(r.str("key"))
}
