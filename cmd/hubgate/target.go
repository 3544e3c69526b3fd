package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/config"
)

// socketVariable names the socket for commands that are given no flag.
const socketVariable = "HUBGATE_SOCKET"

// target are the flags that say which hubgate a command is for.
type target struct {
	config  string
	socket  string
	offline bool
}

// flags adds the flags to a group of commands.
func (t *target) flags(c *cobra.Command, offline string) *cobra.Command {
	flags := c.PersistentFlags()
	flags.StringVarP(&t.config, "config", "c", "", "configuration file of that hubgate, to find its socket and store")
	flags.StringVar(&t.socket, "socket", "", "its socket (default: $"+socketVariable+", else by --config, else ./hubgate.db.sock)")
	if offline != "" {
		flags.BoolVar(&t.offline, "offline", false, offline)
	}
	return c
}

// open connects to the hubgate that is meant, or does its work here.
func (t *target) open(ctx context.Context) (*client, error) {
	if t.offline {
		if t.socket != "" {
			return nil, &usageError{errors.New("--offline goes without a socket: leave one of the two out")}
		}
		c, err := loadConfig(t.config)
		if err != nil {
			return nil, err
		}
		return openOffline(ctx, c, mustExist)
	}
	path, err := t.socketPath()
	if err != nil {
		return nil, err
	}
	return dialSocket(ctx, path)
}

func (t *target) socketPath() (string, error) {
	if t.socket != "" {
		return t.socket, nil
	}
	if path := os.Getenv(socketVariable); path != "" && t.config == "" {
		return path, nil
	}
	c, err := loadConfig(t.config)
	if err != nil {
		return "", err
	}
	return c.Admin.Socket, nil
}

// dialSocket makes a client of the socket, once somebody answers there.
func dialSocket(ctx context.Context, path string) (*client, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	switch {
	case err == nil:
		_ = conn.Close()
		return newClient(dial, func() error { return nil }), nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no access to %s: be the user that runs hubgate, or root", path)
	default:
		return nil, fmt.Errorf("hubgate is not running here: nobody answers at %s (%w). "+
			"Start `hubgate serve`, or pass --config, --socket or --offline", path, cause(err))
	}
}

// cause is a network error without the address, which is told already.
func cause(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// presence says whether an embedded store has to be there already.
type presence bool

const (
	mustExist presence = true
	mayLack   presence = false
)

// checkStore refuses stores that cannot be opened offline.
func checkStore(c *config.Config) error {
	if c.Store.Path == "" {
		return errors.New("the store is a Redis, which is never offline: leave --offline out, and run the command where hubgate serves")
	}
	if _, err := os.Stat(c.Store.Path); err != nil {
		return fmt.Errorf("no store at %s: hubgate has not run here, or pass the --config it runs with", c.Store.Path)
	}
	return nil
}
