package redisstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

type mode int

const (
	standalone mode = iota
	sentinel
	cluster
)

// target is what a URL names.
type target struct {
	mode      mode
	tls       bool
	network   string // tcp or unix
	addresses []string
	username  string
	master    string // of Sentinel
	db        int
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

// parseURL reads the forms that Config.URL lists. Its errors never repeat the
// URL, as it may carry a password that should not be there.
func parseURL(s string) (target, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return target{}, errors.New("store URL: no scheme, such as redis://")
	}
	t := target{network: "tcp"}
	port := redisPort
	switch scheme {
	case "redis", "rediss":
	case "redis+sentinel", "rediss+sentinel":
		t.mode, port = sentinel, sentinelPort
	case "redis+cluster", "rediss+cluster":
		t.mode = cluster
	case "unix":
		t.network = "unix"
	default:
		return target{}, fmt.Errorf("store URL: unknown scheme %q", scheme)
	}
	t.tls = strings.HasPrefix(scheme, "rediss")

	// net/url takes no list of hosts, so it gets to see everything but them.
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	userinfo, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse("redis://" + userinfo + "host" + tail)
	if err != nil {
		return target{}, errors.New("store URL: user name or path cannot be read")
	}
	if _, has := u.User.Password(); has {
		return target{}, errors.New("store URL: it carries a password; put that in a file instead")
	}
	if u.Fragment != "" {
		return target{}, errors.New("store URL: unexpected #")
	}
	t.username = u.User.Username()
	query := u.Query()

	if t.network == "unix" {
		if hosts != "" || u.Path == "" || u.Path == "/" {
			return target{}, errors.New("store URL: want unix:///path/to/socket")
		}
		t.addresses = []string{u.Path}
		if db := query.Get("db"); db != "" {
			if t.db, err = database(db); err != nil {
				return target{}, err
			}
			query.Del("db")
		}
	} else {
		if t.addresses, err = addresses(hosts, port); err != nil {
			return target{}, err
		}
		if err := t.readPath(strings.Trim(u.Path, "/")); err != nil {
			return target{}, err
		}
	}
	for key := range query {
		return target{}, fmt.Errorf("store URL: unknown parameter %q", key)
	}
	if t.mode == standalone && len(t.addresses) > 1 {
		return target{}, errors.New("store URL: several addresses; use redis+cluster:// or redis+sentinel://")
	}
	return t, nil
}

// readPath reads [db], master[/db], or nothing, as the mode has it.
func (t *target) readPath(path string) (err error) {
	db := path
	switch t.mode {
	case sentinel:
		t.master, db, _ = strings.Cut(path, "/")
		if t.master == "" {
			return errors.New("store URL: name the master that Sentinel watches: redis+sentinel://host/master")
		}
	case cluster:
		if path != "" {
			return errors.New("store URL: a cluster has no databases")
		}
	}
	if db != "" {
		t.db, err = database(db)
	}
	return err
}

func database(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("store URL: %q is no database number", s)
	}
	return n, nil
}

// addresses reads host[:port],…
func addresses(list, port string) ([]string, error) {
	var all []string
	for host := range strings.SplitSeq(list, ",") {
		h, p, err := net.SplitHostPort(host)
		if err != nil { // no port, or nonsense
			h, p, err = net.SplitHostPort(host + ":" + port)
		}
		if err != nil || h == "" {
			return nil, fmt.Errorf("store URL: %q is no address", host)
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("store URL: %q has no valid port", host)
		}
		all = append(all, net.JoinHostPort(h, p))
	}
	return all, nil
}
