package provision

import (
	"context"
	"time"
)

const (
	// surveyPause is before it: devices that come back after a start go first.
	surveyPause = time.Second
	// surveyBatch is how many hubs are looked at before a pause.
	surveyBatch = 100
	// surveyShare is the part of a processor that it may take: one in so many.
	surveyShare = 50
)

// survey looks at the hubs that were loaded and that no check has needed since. A
// record that this version cannot use is found out, and told of in the log, before
// a device comes. What it compiles it does not keep: most hubs of a large fleet
// have no device at this replica.
type survey struct{ loaded chan struct{} }

func newSurvey() survey { return survey{make(chan struct{}, 1)} }

// due tells that hubs were loaded.
func (s survey) due() {
	select {
	case s.loaded <- struct{}{}:
	default:
	}
}

func (s survey) run(ctx context.Context, g *Gate) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.loaded:
		}
		if err := sleep(ctx, surveyPause); err != nil {
			return err
		}
		hubs := g.hubs.open()
		for len(hubs) > 0 {
			began := time.Now()
			some := hubs[:min(len(hubs), surveyBatch)]
			hubs = hubs[len(some):]
			for _, h := range some {
				if _, err := h.compile(); err != nil {
					g.reject(ctx, h, err)
				}
			}
			if err := sleep(ctx, surveyShare*time.Since(began)); err != nil {
				return err
			}
		}
	}
}

// sleep returns the context's error if that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
