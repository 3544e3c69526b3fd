// Package redisstore keeps hubs, devices and events in Redis 7 or later, or
// Valkey: one server, a replicated one behind Sentinel, or a Cluster. It is the
// store for more than one hubgate.
//
// A hub and all that is its own live in one partition, and a partition lives in
// one hash slot. So every change is one Lua script on one server: it checks the
// store's ID and the hub's version, writes the record and its indexes, and
// appends the event and the change, or does nothing. That makes creation happen
// exactly once whatever races, and makes an edit of a hub a fence: a creation
// that was decided before it no longer fits the hub's version.
//
// Only hub names cross partitions; names.go says how they stay unique.
// keys.go names every key. feed.go follows the change feed.
//
// Replication in Redis is asynchronous. A failover can lose the last moments
// before it: a lost device provisions again and is announced again. The feed
// notices that history went back. Config.WaitReplicas narrows the window.
// Everything is read from masters.
package redisstore
