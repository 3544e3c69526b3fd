package redisstore

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/hubgate/hubgate/provision"
)

// Defaults of Config.
const (
	DefaultTimeout     = time.Second
	DefaultConnections = 64
	DefaultRetention   = 100_000
)

// Config says which Redis to use, and how. Only URL is required.
type Config struct {
	// URL names the server or servers; every form but unix takes user@ before
	// the address, and rediss instead of redis for TLS:
	//
	//	redis://host:port/db
	//	unix:///path/to/socket?db=n
	//	redis+sentinel://host:port,host:port/master/db
	//	redis+cluster://host:port,host:port
	//
	// A cluster needs the address of one node that answers. Ports default to
	// 6379, Sentinel's to 26379. A password in it is refused.
	URL string
	// Password is the user's, or the default user's.
	Password string
	// SentinelUsername and SentinelPassword are for Sentinel itself.
	SentinelUsername string
	SentinelPassword string
	// TLS is used with rediss. Nil means the system's CAs and no client
	// certificate.
	TLS *tls.Config
	// Partitions is the number of partitions of a new store; an existing one
	// with another number is refused. Default provision.DefaultPartitions.
	Partitions int
	// Timeout bounds every call of the server, within the caller's own
	// deadline. Default one second.
	Timeout time.Duration
	// Connections bounds the connections to each server; the change feed's come
	// on top. Default 64.
	Connections int
	// WaitReplicas is how many replicas have to acknowledge a change. With
	// fewer, the change has happened all the same, and what made it returns
	// ErrUnavailable: a new device's first connection fails and its second
	// finds the device.
	WaitReplicas int
	// Retention is how many events each partition keeps, about. Default
	// 100,000.
	Retention int
	// Logger is told of what nobody asked for: a cut change feed, a check that
	// the server forbids. Nil discards.
	Logger *slog.Logger
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	c.Partitions = cmp.Or(c.Partitions, provision.DefaultPartitions)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Connections = cmp.Or(c.Connections, DefaultConnections)
	c.Retention = cmp.Or(c.Retention, DefaultRetention)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Partitions < 1 || c.Partitions > maxPartitions:
		return c, fmt.Errorf("partitions: %d is not between 1 and %d", c.Partitions, maxPartitions)
	case c.Timeout < 0:
		return c, fmt.Errorf("timeout: %s is negative", c.Timeout)
	case c.Connections < 1:
		return c, fmt.Errorf("connections: %d is less than 1", c.Connections)
	case c.WaitReplicas < 0:
		return c, fmt.Errorf("wait_replicas: %d is negative", c.WaitReplicas)
	case c.Retention < 1:
		return c, fmt.Errorf("retention: %d is less than 1", c.Retention)
	}
	return c, nil
}

// go-redis has one logger for the process, and fills it with what every call
// returns as an error anyway.
func init() { logging.Disable() }

// client returns a client of the target. It does not connect yet.
func (c Config) client(t target, connections int, timeout time.Duration) redis.UniversalClient {
	var tlsConfig *tls.Config
	if t.tls {
		tlsConfig = c.TLS
		if tlsConfig == nil {
			tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	// Notices of maintenance are a commercial server's; asking for them costs
	// every connection a round trip.
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch t.mode {
	case sentinel:
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: t.master, SentinelAddrs: t.addresses,
			SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
			Username: t.username, Password: c.Password, DB: t.db, TLSConfig: tlsConfig,
			DialTimeout: timeout, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
			ContextTimeoutEnabled: true, PoolSize: connections, DisableIdentity: true,
		})
	case cluster:
		return redis.NewClusterClient(&redis.ClusterOptions{
			Addrs:    t.addresses,
			Username: t.username, Password: c.Password, TLSConfig: tlsConfig,
			DialTimeout: timeout, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
			ContextTimeoutEnabled: true, PoolSize: connections, DisableIdentity: true,
			MaintNotificationsConfig: quiet,
		})
	default:
		return redis.NewClient(&redis.Options{
			Network: t.network, Addr: t.addresses[0],
			Username: t.username, Password: c.Password, DB: t.db, TLSConfig: tlsConfig,
			DialTimeout: timeout, DialerRetries: 1, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
			ContextTimeoutEnabled: true, PoolSize: connections, DisableIdentity: true,
			MaintNotificationsConfig: quiet,
		})
	}
}
