package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/provision"
)

type explainFlags struct {
	target
	output   output
	cert     string
	secret   string
	question admin.Question
}

func newExplain(std streams) *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain {--cert CHAIN.pem | --username HUB/DEVICE}",
		Short: "Tell why a device gets in, or not",
		Long: `Take the decision that a device's connection would meet, by the same code, and
show each step, the certificate that broke it, and what to do about it. Nothing
is created, learned or counted. No private key is needed.

A device that connects without TLS has no chain: --username and --secret-file say
what it brings.

It asks the hubgate that serves here. With --offline it decides by the
configuration alone, and by the embedded store if there is one.

Exit code 0: the device gets in. 3: it is refused. 1: there is no answer.`,
		Example: `  hubgate explain --cert chain.pem --sni factory.iot.example.com
  hubgate explain --cert leaf.pem --hub factory --offline --config hubgate.yaml
  openssl s_client … -showcerts | hubgate explain --cert -
  hubgate explain --username factory/SN-0001 --secret-file sn-0001.secret`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.run(c.Context(), std)
		},
	}
	f.flags(c, "do not ask a running hubgate: decide by --config, and by its embedded store if nobody serves it")
	f.output.flag(c)
	flags := c.Flags()
	flags.StringVar(&f.cert, "cert", "", "the chain that the device presents, PEM, leaf first; - is standard input")
	flags.StringVar(&f.question.Username, "username", "", "user name of a device that connects without TLS: <hub>/<device>")
	flags.StringVar(&f.secret, "secret-file", "", "file with the secret that it brings; - is standard input")
	flags.StringVar(&f.question.SNI, "sni", "", "server name of its handshake")
	flags.StringVar(&f.question.Hub, "hub", "", "hub that Envoy's listener names (ID or name)")
	flags.StringVar(&f.question.Authority, "authority", "", "host of its HTTP request")
	flags.StringVar(&f.question.Protocol, "protocol", "tcp", "http or tcp (MQTT is tcp)")
	flags.StringVar(&f.question.Source, "source", "", "IP address of the device")
	return c
}

func (f *explainFlags) run(ctx context.Context, std streams) (err error) {
	switch plain := f.question.Username != ""; {
	case plain && f.cert != "":
		return usage("--username is for a connection without TLS, on which there is no --cert")
	case !plain && f.secret != "":
		return usage("--secret-file is for a connection without TLS: add --username")
	case plain:
		f.question.Password, err = f.readSecret(std.in)
	case f.cert == "":
		return usage("--cert is missing: name the PEM file that the device presents")
	default:
		f.question.Chain, err = readChain(f.cert, std.in)
	}
	if err != nil {
		return err
	}
	client, blind, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.close()) }()
	var e admin.Explanation
	if err := client.call(ctx, http.MethodPost, "/v1/explain", nil, f.question, &e); err != nil {
		return err
	}
	if blind {
		if err := say(std.err, "Devices were not looked up: there is no embedded store to read.\n"); err != nil {
			return err
		}
	}
	err = f.output.print(std.out, e, func() error { return printExplanation(std.out, e, time.Now()) })
	if err == nil && e.Decision != provision.Allow.String() {
		return errRefused
	}
	return err
}

// readSecret reads the device's secret, "" if it brings none.
func (f *explainFlags) readSecret(stdin io.Reader) (string, error) {
	source := stdin
	switch f.secret {
	case "":
		return "", nil
	case "-":
	default:
		file, err := os.Open(f.secret)
		if err != nil {
			return "", fmt.Errorf("--secret-file: %w", err)
		}
		defer func() { _ = file.Close() }()
		source = file
	}
	text, err := io.ReadAll(io.LimitReader(source, 4<<10))
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// open is target.open, but without a store an offline explanation still has the
// configuration to go by.
// It reports whether the answer is blind to devices.
func (f *explainFlags) open(ctx context.Context) (c *client, blind bool, err error) {
	if !f.offline {
		c, err = f.target.open(ctx)
		return c, false, err
	}
	configuration, err := loadConfig(f.config)
	if err != nil {
		return nil, false, err
	}
	blind = checkStore(configuration) != nil
	c, err = openOffline(ctx, configuration, mayLack)
	return c, blind, err
}

// maxChainFile is far beyond what a device can present.
const maxChainFile = 512 << 10

// readChain reads the file. A private key in it goes no further.
func readChain(name string, stdin io.Reader) (string, error) {
	source := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("--cert: %w", err)
		}
		defer func() { _ = file.Close() }()
		source = file
	}
	data, err := io.ReadAll(io.LimitReader(source, maxChainFile+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("--cert: %w", err)
	case len(data) > maxChainFile:
		return "", fmt.Errorf("--cert: %s is larger than %d KiB, which no device can present", name, maxChainFile>>10)
	case bytes.Contains(data, []byte("PRIVATE KEY-----")):
		return "", fmt.Errorf("--cert: %s holds a private key, which is not needed and was not sent anywhere: name a file with the certificates alone", name)
	case !bytes.Contains(data, []byte("-----BEGIN ")):
		return "", fmt.Errorf("--cert: %s holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)", name)
	}
	return string(data), nil
}

func printExplanation(w io.Writer, e admin.Explanation, now time.Time) error {
	var t table
	for _, s := range e.Steps {
		mark := "ok"
		if !s.OK {
			mark = "✗"
		}
		t.row(mark, s.Name, s.Detail)
	}
	t.row()
	if err := t.print(w); err != nil {
		return err
	}
	if err := say(w, "%s (%s).\n", verdict(e), e.Reason); err != nil {
		return err
	}
	if c := e.Certificate; c != nil {
		facts := table{rows: [][]string{
			{},
			{"certificate", c.Subject},
			{"issued by", c.Issuer},
			{"serial", c.Serial},
			{"valid", clock(c.NotBefore) + " to " + clock(c.NotAfter) + validity(*c, now)},
			{"SHA-256", c.Fingerprint},
		}}
		if err := facts.print(w); err != nil {
			return err
		}
	}
	if e.Remedy == "" {
		return nil
	}
	return say(w, "\nWhat to do: %s\n", e.Remedy)
}

func verdict(e admin.Explanation) string {
	switch {
	case e.Reason == string(provision.DeviceProvisioned):
		return "The device gets in, and is created, as it was never seen before"
	case e.Decision == provision.Allow.String():
		return "The device gets in"
	case e.Decision == provision.Deny.String():
		return "The device is refused: " + e.Message
	}
	return "The device cannot be checked: " + e.Message
}

// validity says where now is in a certificate's time, if it is outside.
func validity(c admin.Certificate, now time.Time) string {
	switch {
	case now.Before(c.NotBefore):
		return ", which has not begun"
	case now.After(c.NotAfter):
		return ", which is over"
	}
	return ""
}
