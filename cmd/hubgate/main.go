// Command hubgate is the whole product in one binary: the server that Envoy
// asks (`hubgate serve`), and the commands that configure, explain and
// administer it. This package holds what only a process has – flags, wiring,
// signals, exit codes, tables for people – and decides nothing.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the process without what cannot be tested.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	endOnSignal(ctx, cancel)

	root := newRoot(streams{stdin, stdout, stderr})
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	return exitCode(stderr, command.CommandPath(), err)
}

// endOnSignal cancels the context on the first SIGINT or SIGTERM. By then
// signals do again what they do by default, so that a second one ends the
// process at once.
func endOnSignal(ctx context.Context, cancel context.CancelFunc) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
}

// streams are the process's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}
