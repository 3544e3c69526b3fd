package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

// The small store, and how many devices there are for each hub of both.
const (
	smallDevices  = 1000
	devicesPerHub = 100
)

// scale measures checks of known devices on two Redis stores, of which one holds
// many more devices and hubs, and what a device takes of Redis's memory: those
// of one hub that has half of all, and those of hubs that share the rest.
func scale(ctx context.Context, w *world, r *result) error {
	requests, err := w.httpChecks()
	if err != nil {
		return err
	}
	r.What = fmt.Sprintf("%s: %d devices, %d hubs; %d, %d", r.What, w.scale, w.scale/devicesPerHub, smallDevices, smallDevices/devicesPerHub)
	r.Columns = []string{cpuPerCheck, allocsPerCheck, checksPerSec, "Redis B/device"}
	stores := []struct {
		name    string
		devices int
		url     string
	}{{name: "small", devices: smallDevices}, {name: "large", devices: w.scale}}
	var memory []float64
	for i := range stores {
		s := &stores[i]
		if s.url, err = w.startRedis(ctx, generatorCPU()); err != nil {
			return err
		}
		if memory, err = w.fill(ctx, s.url, s.devices); err != nil {
			return err
		}
	}
	var sides []*side
	for _, store := range stores {
		s, err := w.startHubgate(ctx, hubgateSpec{name: "scale-" + store.name, store: store.url})
		if err != nil {
			return err
		}
		defer s.process.Kill() // it follows its store's changes, which costs the others
		l, err := openLoad(ctx, s, requests, verdict(true))
		if err != nil {
			return err
		}
		defer l.close()
		if err := l.warm(ctx, w.inFlight); err != nil { // its devices come to be known
			return err
		}
		sides = append(sides, &side{name: store.name, measure: func() (sample, error) { return l.closed(ctx, w.inFlight, w.long) }})
	}
	if err := measureInTurns(sides, w.rounds); err != nil {
		return err
	}
	r.Rows = rowsOf(sides)
	inOne, inMany := memory[0], memory[1]
	r.Rows[1].Figures["Redis B/device"] = (inOne + inMany) / 2
	r.Targets = []target{
		ratio(cpuPerCheck, sides[1], sides[0]).atMost(1.1),
		exactly("Redis's memory per device of a hub that has half of all", "B", inOne).atMost(550),
		exactly(fmt.Sprintf("Redis's memory per device of hubs that have %d each", devicesPerHub/2), "B", inMany).atMost(550),
	}
	return nil
}

// fill fills a store and returns what a device took of Redis's memory: in the
// first hub, which gets half of all, and in the others.
func (w *world) fill(ctx context.Context, url string, devices int) (each []float64, err error) {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: strings.TrimPrefix(url, "unix://")})
	defer func() { _ = client.Close() }()
	var filled atomic.Int64
	told := func(more int) {
		const every = 100_000
		if n := filled.Add(int64(more)); n/every > (n-int64(more))/every {
			_, _ = fmt.Fprintf(w.progress, " %d of %d devices", n, devices)
		}
	}
	return each, withStore(ctx, url, func(s registry) error {
		hubs, err := createHubs(ctx, s, devices/devicesPerHub)
		if err != nil {
			return err
		}
		before, err := usedMemory(ctx, client)
		if err != nil {
			return err
		}
		put := func(hubs []provision.Hub, all int) error {
			for i, h := range hubs {
				n := all*(i+1)/len(hubs) - all*i/len(hubs)
				if err := fillDevices(ctx, s, h.ID, n, told); err != nil {
					return err
				}
			}
			after, err := usedMemory(ctx, client)
			each = append(each, (after-before)/float64(all))
			before = after
			return err
		}
		if err := put(hubs[:1], devices/2); err != nil {
			return err
		}
		return put(hubs[1:], devices-devices/2)
	})
}

func usedMemory(ctx context.Context, client *redis.Client) (float64, error) {
	return redisInfo(ctx, client, "memory", "used_memory")
}

// redisInfo reads a figure of Redis's about itself.
func redisInfo(ctx context.Context, client *redis.Client, section, name string) (float64, error) {
	info, err := client.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(info, "\n"+name+":")
	value, _, _ := strings.Cut(after, "\r")
	if !ok {
		return 0, fmt.Errorf("%s is not in what Redis tells", name)
	}
	return strconv.ParseFloat(value, 64)
}
