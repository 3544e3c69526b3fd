package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

type options struct {
	list     bool
	serve    string
	run      string
	json     string
	page     string
	hubgate  string
	long     time.Duration
	rounds   int
	inFlight int
	devices  int
	hubs     int
	scale    int
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
	flags.StringVar(&o.run, "run", "", "only cases whose name contains one of these words, separated by commas")
	flags.StringVar(&o.json, "json", "", "write the figures to this file, too; of cases that are not run it keeps what it holds")
	flags.StringVar(&o.page, "page", "", "measure nothing: write the tables and charts of performance.md in this directory out of its performance.json")
	flags.StringVar(&o.hubgate, "hubgate", "", "the binary to measure (default: one built from this source)")
	flags.DurationVar(&o.long, "long", time.Second, "length of a round")
	flags.IntVar(&o.rounds, "rounds", 7, "rounds of each server")
	flags.IntVar(&o.inFlight, "in-flight", 64, "checks in flight")
	flags.IntVar(&o.devices, "devices", 512, "devices that take turns; more than are in flight")
	flags.IntVar(&o.hubs, "hubs", 100_000, "hubs that hubgate starts with")
	flags.IntVar(&o.scale, "scale", 200_000, "devices of the large store; 10000000 take some 6 GB and a quarter of an hour")
	flags.StringVar(&o.serve, "serve", "", "be the server of that kind (used by bench itself)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case o.serve == "" && flags.NArg() > 0:
		return fmt.Errorf("%q is no argument: see -help", flags.Arg(0))
	case o.rounds < 1 || o.inFlight < 1 || o.devices < 1 || o.hubs < 1 || o.scale < 100 || o.long < 10*time.Millisecond:
		return errors.New("-rounds, -in-flight, -devices and -hubs are at least 1, -scale at least 100, -long at least 10ms")
	case o.serve != "" && flags.NArg() == 2:
		return serve(ctx, o.serve, flags.Arg(0), flags.Arg(1))
	case o.page != "":
		return writePage(o.page)
	case o.list:
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, c := range cases {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", c.name, c.what)
		}
		return w.Flush()
	}
	return measure(ctx, o, out, progress)
}

func measure(ctx context.Context, o options, out, progress io.Writer) error {
	todo, err := chosen(o.run)
	if err != nil {
		return err
	}
	w, err := newWorld(ctx, o, progress)
	if err != nil {
		return err
	}
	defer w.close()
	if err := keepOff(); err != nil {
		return err
	}
	var results []result
	for i, c := range todo {
		began := time.Now()
		_, _ = fmt.Fprintf(progress, "%d/%d %s …", i+1, len(todo), c.name)
		r := result{Case: c.name, What: c.what}
		if err := c.run(ctx, w, &r); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if r.Load, err = loadAverage(); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(progress, " %s\n", time.Since(began).Round(time.Second))
		results = append(results, r)
	}
	if o.json != "" {
		if err := keep(o.json, results); err != nil {
			return err
		}
	}
	return table(out, results)
}

// keep writes the results to the file, in place of what it holds of the same
// cases, in the order of the table: some of them are not measured as often as others.
func keep(file string, results []result) error {
	all, err := read(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, r := range results {
		if i := slices.IndexFunc(all, func(o result) bool { return o.Case == r.Case }); i >= 0 {
			all[i] = r
		} else {
			all = append(all, r)
		}
	}
	order := func(r result) int { return slices.IndexFunc(cases, func(c benchCase) bool { return c.name == r.Case }) }
	slices.SortFunc(all, func(a, b result) int { return order(a) - order(b) })
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644) //nolint:gosec // figures are for everybody
}

func read(file string) (results []result, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return results, json.Unmarshal(text, &results)
}

// loadAverage is the machine's, over the last minute.
func loadAverage() (load float64, err error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(text), &load)
	return load, err
}
