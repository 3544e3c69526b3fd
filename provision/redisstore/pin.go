package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

const (
	// schema is the version of the key layout that this build writes.
	schema = 1
	// oldestMajor is the oldest version of Redis that will do.
	oldestMajor = 7
)

// inspect refuses servers on which records would not be safe.
func (s *Store) inspect(ctx context.Context) error {
	if c, ok := s.client.(*redis.ClusterClient); ok {
		return s.call(ctx, func(ctx context.Context) error {
			return c.ForEachMaster(ctx, s.inspectServer)
		})
	}
	node, err := s.master(ctx, keyStore)
	if err != nil {
		return err
	}
	return s.inspectServer(ctx, node)
}
