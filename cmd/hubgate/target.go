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

// Variables of the environment, for commands that are given no flag.
const (
	socketVariable    = "HUBGATE_SOCKET"
	urlVariable       = "HUBGATE_URL"
	tokenVariable     = "HUBGATE_TOKEN"      //nolint:gosec // its name is no secret
	tokenFileVariable = "HUBGATE_TOKEN_FILE" //nolint:gosec // as above
	caFileVariable    = "HUBGATE_CA_FILE"
)

// target are the flags that say which hubgate a command is for.
type target struct {
	config  string
	socket  string
	offline bool

	context   string
	url       string
	tokenFile string
	caFile    string
	plainHTTP bool
}

// flags adds the flags to a group of commands.
func (t *target) flags(c *cobra.Command, offline string) *cobra.Command {
	flags := c.PersistentFlags()
	flags.StringVarP(&t.config, "config", "c", "", "configuration file of the hubgate that serves here, to find its socket and store")
	flags.StringVar(&t.socket, "socket", "", "its socket (default: $"+socketVariable+", else by --config, else ./hubgate.db.sock)")
	flags.StringVar(&t.context, "context", "", "a context of `NAME` (default: the current one; see hubgate context)")
	flags.StringVar(&t.url, "url", "", "address of a hubgate elsewhere: https://HOST:9192 (default: $"+urlVariable+")")
	flags.StringVar(&t.tokenFile, "token-file", "", "file with its token (default: $"+tokenVariable+", $"+tokenFileVariable+")")
	flags.StringVar(&t.caFile, "ca-file", "", "CA of its certificate, PEM (default: $"+caFileVariable+", else the system's)")
	flags.BoolVar(&t.plainHTTP, "plain-http", false, "send the token unencrypted, over http://, to another host")
	_ = c.RegisterFlagCompletionFunc("context", completeContexts) // fails only for a flag that is not there
	if offline != "" {
		flags.BoolVar(&t.offline, "offline", false, offline)
	}
	return c
}

// open connects to the hubgate that is meant, or does its work here.
func (t *target) open(ctx context.Context) (*client, error) {
	if t.offline {
		if t.socket != "" || t.url != "" || t.context != "" {
			return nil, usage("--offline goes without a socket, address or context: leave one of the two out")
		}
		c, err := loadConfig(t.config)
		if err != nil {
			return nil, err
		}
		return openOffline(ctx, c, mustExist)
	}
	r, there, err := t.remote()
	if err != nil {
		return nil, err
	}
	if there {
		return r.open()
	}
	path, err := t.socketPath()
	if err != nil {
		return nil, err
	}
	return dialSocket(ctx, path)
}

// remote is the hubgate elsewhere that is meant, if one is: flags come before
// the environment, and that before the current context. A token of the
// environment goes with an address of flags or environment, never with a
// context's: it would tell one hubgate the token of another.
func (t *target) remote() (r remote, there bool, err error) {
	local := t.socket != "" || t.config != ""
	switch {
	case t.url != "" && t.context != "":
		return r, false, usage("--url, --context: leave one of the two out")
	case (t.url != "" || t.context != "") && local:
		return r, false, usage("--socket and --config name the hubgate that serves here, --url and --context one elsewhere: leave one of the two out")
	case t.url != "":
		r, err = fromEnvironment(t.url)
	case t.context != "":
		r, err = namedContext(t.context)
	case local, os.Getenv(urlVariable) == "" && os.Getenv(socketVariable) != "":
		return r, false, t.onlyRemote()
	case os.Getenv(urlVariable) != "":
		r, err = fromEnvironment(os.Getenv(urlVariable))
	default:
		r, err = namedContext("")
	}
	if err != nil {
		return r, false, err
	}
	if r.URL == "" {
		return r, false, t.onlyRemote()
	}
	if t.tokenFile != "" {
		r.Token, r.TokenFile = "", t.tokenFile
	}
	if t.caFile != "" {
		r.CAFile = t.caFile
	}
	r.PlainHTTP = r.PlainHTTP || t.plainHTTP
	return r, true, nil
}

// onlyRemote refuses flags that a socket has no use for.
func (t *target) onlyRemote() error {
	if t.tokenFile != "" || t.caFile != "" || t.plainHTTP {
		return usage("--token-file, --ca-file and --plain-http are for a hubgate elsewhere: add --url or --context")
	}
	return nil
}

// fromEnvironment is the hubgate of that address with what the environment says
// of it.
func fromEnvironment(address string) (remote, error) {
	r := remote{URL: address, TokenFile: os.Getenv(tokenFileVariable), CAFile: os.Getenv(caFileVariable)}
	text := os.Getenv(tokenVariable)
	if text == "" {
		return r, nil
	}
	token, err := checkToken(text)
	if err != nil {
		return r, fmt.Errorf("%s: %w", tokenVariable, err)
	}
	r.Token, r.TokenFile = token, ""
	return r, nil
}

// namedContext is the context of that name, "" for the current one. Without a
// current one, its URL is empty.
func namedContext(name string) (remote, error) {
	all, _, err := loadContexts()
	if err != nil {
		return remote{}, err
	}
	if name == "" {
		name = all.Current
	}
	if name == "" {
		return remote{}, nil
	}
	i, err := all.find(name)
	if err != nil {
		return remote{}, err
	}
	return all.Contexts[i], nil
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
		return nil, &unreachableError{fmt.Errorf("hubgate is not running here: nobody answers at %s (%w). "+
			"Start `hubgate serve`, or pass --config, --socket, --url or --offline", path, cause(err))}
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
