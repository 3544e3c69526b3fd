// Package demo shows hubgate at work on one machine, on real parts: a vendor's
// certificates, hubgate on its embedded store, the real Envoy with the
// configuration that package envoy writes, an MQTT broker and an HTTP backend
// behind it. Devices connect, and a table tells what became of each.
//
// hubgate and Envoy are processes of their own, started the way an operator
// starts them; nothing is done for the demo that a user could not do. Broker
// and backend are in this process, as they are not what is shown.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hubgate/hubgate/envoy/module/modulebin"
	"github.com/hubgate/hubgate/internal/envoybin"
)

// Config says what to show, and to whom.
type Config struct {
	// Hubgate is the binary to run.
	Hubgate string
	// Out gets progress, tables and what to try next.
	Out io.Writer
	// Once ends the demo after its tables; else everything stays up until the
	// context ends.
	Once bool
}

// Run shows the demo. Whatever it started has ended when it returns. Its
// directory is gone by then as well, unless something failed: then the error
// says where the logs are.
func Run(ctx context.Context, c Config) error {
	envoyBinary, err := envoybin.Path(ctx, c.Out)
	if err != nil {
		return err
	}
	screen{c.Out}.say("Building the library that Envoy loads")
	library, err := modulebin.Path(ctx)
	if err != nil {
		return fmt.Errorf("%w\nRun the demo in hubgate's source directory, or set %s to a libhubgate.so", err, modulebin.Variable)
	}
	dir, err := os.MkdirTemp("", "hubgate-demo-")
	if err != nil {
		return err
	}
	err = show(ctx, c, siteConfig{dir: dir, hubgate: c.Hubgate, envoy: envoyBinary, library: library})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w\nThe files and logs of this run are kept in %s", err, dir)
	}
	if removed := os.RemoveAll(dir); removed != nil {
		return removed
	}
	if ctx.Err() != nil && err != nil {
		return errors.New("interrupted before the end; everything was stopped")
	}
	return nil
}

func show(ctx context.Context, c Config, parts siteConfig) (err error) {
	began, screen := time.Now(), screen{c.Out}
	screen.say("Making a vendor root, its intermediate, and devices")
	f, err := newFactory(parts.dir)
	if err != nil {
		return err
	}
	screen.say("Starting hubgate on an embedded store, an MQTT broker, an HTTP backend, and Envoy in front of them")
	s, err := startSite(ctx, parts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	screen.say("Connecting devices")
	rows, err := s.play(ctx, story(f))
	if err != nil {
		return err
	}
	rows = append(rows, s.ban(ctx, f.second))
	if err := s.report(ctx, screen, rows); err != nil {
		return err
	}
	screen.say("\nThis took %s.", time.Since(began).Round(100*time.Millisecond))
	if err := unexpected(rows); err != nil || c.Once {
		return err
	}
	s.suggest(screen, f.spare)
	select {
	case <-ctx.Done():
		screen.say("\nStopping")
		return nil
	case <-s.hubgate.Done():
		return fmt.Errorf("the hubgate of the demo ended by itself; its log is %s", s.file(hubgateLog))
	case <-s.envoy.Done():
		return fmt.Errorf("the Envoy of the demo ended by itself; its log is %s", s.file(envoyLog))
	}
}

// unexpected names the connections that went another way than they should.
func unexpected(rows []row) error {
	var errs []error
	for _, r := range rows {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s, %s, %s: %w", r.protocol, r.device.name, r.what, r.err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d connections did not go as expected:\n%w", len(errs), len(rows), errors.Join(errs...))
}
