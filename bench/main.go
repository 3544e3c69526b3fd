package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

type options struct {
	list     bool
	serve    string
	run      string
	json     string
	hubgate  string
	long     time.Duration
	rounds   int
	inFlight int
	devices  int
}

func main() { os.Exit(status(os.Args[1:])) }

func status(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, args, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.list, "list", false, "list the cases")
	flags.StringVar(&o.run, "run", "", "only cases whose name contains this")
	flags.StringVar(&o.json, "json", "", "write the figures to this file, too")
	flags.StringVar(&o.hubgate, "hubgate", "", "the binary to measure (default: one built from this source)")
	flags.DurationVar(&o.long, "long", 2*time.Second, "length of a round")
	flags.IntVar(&o.rounds, "rounds", 7, "rounds of each server")
	flags.IntVar(&o.inFlight, "in-flight", 64, "checks in flight")
	flags.IntVar(&o.devices, "devices", 512, "devices that take turns; more than are in flight")
	flags.StringVar(&o.serve, "serve", "", "be the server of that kind (used by bench itself)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case o.serve == "" && flags.NArg() > 0:
		return fmt.Errorf("%q is no argument: see -help", flags.Arg(0))
	case o.rounds < 1 || o.inFlight < 1 || o.devices < 1 || o.long < 10*time.Millisecond:
		return errors.New("-rounds, -in-flight and -devices are at least 1, -long at least 10ms")
	case o.serve != "" && flags.NArg() == 2:
		return serve(ctx, o.serve, flags.Arg(0), flags.Arg(1))
	case o.list:
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, c := range closedCases {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", c.name, c.what)
		}
		return w.Flush()
	}
	return measure(ctx, o, out, progress)
}

func measure(ctx context.Context, o options, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "hubgate-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.hubgate == "" {
		o.hubgate = filepath.Join(dir, "hubgate")
		build := exec.CommandContext(ctx, "go", "build", "-o", o.hubgate, "github.com/hubgate/hubgate/cmd/hubgate")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build hubgate: %w\n%s", err, text)
		}
	}
	w := &world{devices: o.devices}
	if w.own, err = newVendor("Acme"); err != nil {
		return err
	}
	if w.foreign, err = newVendor("Globex"); err != nil {
		return err
	}
	// The generator keeps off the servers' processor.
	if n := runtime.NumCPU(); n > 1 {
		runtime.GOMAXPROCS(2)
		if err := pin([]int{n - 1}); err != nil {
			return err
		}
	}
	var started []*server
	defer func() {
		for _, s := range started {
			s.process.Kill()
		}
	}()
	for _, kind := range []struct {
		into  **server
		start func() (*server, error)
	}{
		{&w.stock, func() (*server, error) { return startNoop(ctx, "stock") }},
		{&w.raw, func() (*server, error) { return startNoop(ctx, "raw") }},
		{&w.hubgate, func() (*server, error) { return startHubgate(ctx, o.hubgate, dir, w.own, "bolt:hubgate.db") }},
	} {
		s, err := kind.start()
		if err != nil {
			return err
		}
		started, *kind.into = append(started, s), s
	}
	var results []result
	for _, c := range closedCases {
		if !strings.Contains(c.name, o.run) {
			continue
		}
		_, _ = fmt.Fprintf(progress, "measuring %s …\n", c.name)
		r, err := c.run(ctx, w, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return errors.New("no such case: see -list")
	}
	if o.json != "" {
		text, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	return table(out, results)
}

func table(out io.Writer, results []result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "case\tserver\tCPU µs\tallocs\tchecks/s\tp50 µs\tp99 µs\tp99.9 µs\tCPU vs stock\ttarget\t")
	for _, r := range results {
		for _, name := range []string{"hubgate", "stock", "raw"} {
			f := r.Servers[name]
			ratio, target := "", ""
			if name == "hubgate" {
				ratio, target = fmt.Sprintf("%.2f", r.Ratio), fmt.Sprintf("≤ %.2f", r.Target)
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%s\t%s\t\n",
				r.Case, name, f.CPU, f.Allocs, f.Rate, f.P50, f.P99, f.P999, ratio, target)
		}
	}
	return w.Flush()
}
