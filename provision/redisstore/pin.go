package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

const (
	// schema is the version of the key layout that this build writes.
	schema = 1
	// oldestMajor is the oldest version of Redis that will do.
	oldestMajor = 7
	// keepAll is the only maxmemory-policy that loses no records.
	keepAll = "noeviction"
)

// server is what a master says of itself; what it forbids to ask is empty.
type server struct {
	address string
	version string
	mode    string
	policy  string
}

// inspect refuses servers on which records would not be safe.
func (s *Store) inspect(ctx context.Context) error {
	var (
		mu      sync.Mutex
		servers []server
	)
	err := s.call(ctx, func(ctx context.Context) error {
		ask := func(ctx context.Context, node *redis.Client) error {
			answer, err := askServer(ctx, node)
			mu.Lock()
			defer mu.Unlock()
			servers = append(servers, answer)
			return err
		}
		if c, ok := s.client.(*redis.ClusterClient); ok {
			return c.ForEachMaster(ctx, ask)
		}
		node, err := s.master(ctx, keyStore)
		if err != nil {
			return err
		}
		return ask(ctx, node)
	})
	if err != nil {
		return err
	}
	for _, answer := range servers {
		if err := s.judge(ctx, answer); err != nil {
			return fmt.Errorf("redis server %s: %w", answer.address, err)
		}
	}
	return nil
}

func (s *Store) judge(ctx context.Context, answer server) error {
	if answer.version == "" {
		s.log.WarnContext(ctx, "the server forbids INFO, so its version is not checked", "server", answer.address)
	} else {
		major, _, _ := strings.Cut(answer.version, ".")
		if n, err := strconv.Atoi(major); err != nil || n < oldestMajor {
			return fmt.Errorf("version %s is too old; version %d or Valkey is needed", answer.version, oldestMajor)
		}
	}
	if answer.mode == "cluster" && !s.clustered {
		return errors.New("it is part of a cluster: use redis+cluster:// in the store URL")
	}
	if answer.policy == "" {
		s.log.WarnContext(ctx, "the server forbids CONFIG GET and INFO: make sure that its maxmemory-policy is noeviction", "server", answer.address)
	} else if answer.policy != keepAll {
		return fmt.Errorf("maxmemory-policy %s deletes devices when memory is short; set it to %s", answer.policy, keepAll)
	}
	return nil
}

// askServer asks a master. Providers forbid some questions to their customers.
func askServer(ctx context.Context, node *redis.Client) (server, error) {
	answer := server{address: node.Options().Addr}
	info, err := askInfo(ctx, node, "server")
	if err != nil {
		return answer, err
	}
	// Valkey calls itself the Redis that it is compatible with.
	answer.version, answer.mode = info["redis_version"], info["redis_mode"]
	config, err := node.ConfigGet(ctx, "maxmemory-policy").Result()
	if err == nil && config["maxmemory-policy"] != "" {
		answer.policy = config["maxmemory-policy"]
		return answer, nil
	}
	if err != nil && !isForbidden(err) {
		return answer, err
	}
	if info, err = askInfo(ctx, node, "memory"); err != nil {
		return answer, err
	}
	answer.policy = info["maxmemory_policy"]
	return answer, nil
}

// askInfo reads a section of INFO; it is empty if the server forbids that.
func askInfo(ctx context.Context, node *redis.Client, section string) (map[string]string, error) {
	text, err := node.Info(ctx, section).Result()
	if err != nil && !isForbidden(err) {
		return nil, err
	}
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[key] = value
		}
	}
	return fields, nil
}

func isForbidden(err error) bool {
	return redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "ERR unknown command")
}

// pin finds out which store this is, founding it if there is none. From then on
// every script checks the ID in its own partition.
//
// Founding is two steps, as they span servers: the store's record is written,
// then every partition gets a copy of the ID, then the record says ready. Until
// it does, any process that starts completes it. After, a partition without the
// ID has lost its data, and is never taken for a new one.
func (s *Store) pin(ctx context.Context) error {
	ready, err := s.found(ctx)
	if err != nil {
		return err
	}
	var ids []string
	err = s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		replies := make([]*redis.StringCmd, len(s.parts))
		for i, p := range s.parts {
			if !ready {
				pipe.HSetNX(ctx, p.state(), "id", s.id)
			}
			replies[i] = pipe.HGet(ctx, p.state(), "id")
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		for _, reply := range replies {
			ids = append(ids, reply.Val())
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		switch id {
		case s.id:
		case "":
			return fmt.Errorf("%w: partition %d (keys %s*) has lost its data", provision.ErrStoreChanged, i, s.parts[i].prefix)
		default:
			return fmt.Errorf("%w: partition %d (keys %s*) is of store %s, %s says %s", provision.ErrStoreChanged, i, s.parts[i].prefix, id, keyStore, s.id)
		}
	}
	if ready {
		return nil
	}
	return s.call(ctx, func(ctx context.Context) error {
		return s.client.HSet(ctx, keyStore, "ready", 1).Err()
	})
}

// found reads the store's record, writing it first if there is none.
func (s *Store) found(ctx context.Context) (ready bool, err error) {
	var fields []any
	err = s.call(ctx, func(ctx context.Context) (err error) {
		fields, err = scriptFound.Run(ctx, s.client, []string{keyStore}, uuid.NewString(), len(s.parts), schema).Slice()
		return err
	})
	if err != nil {
		return false, err
	}
	var text [4]string // id, partitions, schema, ready
	for i := range min(len(text), len(fields)) {
		text[i], _ = fields[i].(string)
	}
	if n, err := strconv.Atoi(text[2]); err != nil || n > schema {
		return false, fmt.Errorf("the store has schema %q and this version of hubgate knows %d: run a newer hubgate", text[2], schema)
	}
	if text[1] != strconv.Itoa(len(s.parts)) {
		return false, fmt.Errorf("the store has %s partitions, fixed when it was first used, and is configured with %d: configure %s", text[1], len(s.parts), text[1])
	}
	if s.id = text[0]; s.id == "" {
		return false, fmt.Errorf("the store has no ID in %s", keyStore)
	}
	return text[3] != "", nil
}
