// Command hubgate is the whole product in one binary: the server that Envoy
// asks (`hubgate serve`), and the commands that configure, explain and
// administer it. This package holds what only a process has – flags, wiring,
// signals, exit codes, tables for people – and decides nothing.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes. Scripts rely on them.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitRefused = 3 // explain: the connection would be refused
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
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused // it has been explained
	case errors.As(err, &usage):
		_ = say(stderr, "hubgate: %v\nSee `%s --help`.\n", err, command.CommandPath())
		return exitUsage
	default:
		_ = say(stderr, "hubgate: %v\n", err)
		return exitError
	}
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

// errRefused ends explain when the answer is no.
var errRefused = errors.New("refused")

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// streams are the process's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}
