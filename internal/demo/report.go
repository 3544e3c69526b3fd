package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"text/tabwriter"
)

// report prints what happened, and what hubgate's own commands say about it.
func (s *site) report(ctx context.Context, out io.Writer, rows []row) error {
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROTOCOL\tDEVICE\tWHAT\tOUTCOME\tREASON")
	for _, r := range rows {
		reason := string(r.reason)
		if r.err != nil {
			reason += " (UNEXPECTED: " + r.err.Error() + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.protocol, r.device.name, r.what, r.outcome, reason)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := s.devices(ctx, out); err != nil {
		return err
	}
	events, err := s.ask(ctx, "event", "tail", "--since", "start", "--follow=false")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\nTheir events:\n%s", events)
	return err
}

// devices prints the devices of both hubs.
func (s *site) devices(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "\nThe devices that exist now:")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tHUB\tDESCRIPTION\tID")
	for _, hub := range []string{openHub, closedHub} {
		text, err := s.ask(ctx, "device", "list", hub, "-o", "json")
		if err != nil {
			return err
		}
		var list struct {
			Devices []struct{ ID, Name, Description string }
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return fmt.Errorf("hubgate device list: %w", err)
		}
		for _, d := range list.Devices {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", d.Name, hub, d.Description, d.ID)
		}
	}
	return table.Flush()
}

// ask runs one of hubgate's commands against the hubgate of the demo.
func (s *site) ask(ctx context.Context, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, s.file(binary), append(args, "--config", hubgateConfig)...)
	command.Dir = s.dir
	text, err := command.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return nil, fmt.Errorf("hubgate %s: %w: %s", strings.Join(args, " "), err, failed.Stderr)
	}
	return text, err
}

// suggest prints what the user can do while everything is up.
func (s *site) suggest(out io.Writer, spare *device) {
	_, httpsPort, _ := strings.Cut(s.https, ":")
	_, mqttPort, _ := strings.Cut(s.mqtt, ":")
	fmt.Fprintf(out, `
Everything stays up until Ctrl-C. %[1]s has not connected yet; in another terminal:

  cd %[2]s
  ./hubgate event tail -c hubgate.yaml &
  curl -s --cacert %[3]s --cert %[1]s.pem --key %[1]s.key --resolve %[4]s:%[5]s:127.0.0.1 https://%[4]s:%[5]s/
  mosquitto_pub -h 127.0.0.1 -p %[6]s --cafile %[3]s --cert %[1]s.pem --key %[1]s.key -i %[1]s -t devices/%[1]s -m 21.5 -d
  ./hubgate device list %[7]s -c hubgate.yaml
  ./hubgate device disable %[7]s %[1]s -c hubgate.yaml    # then try curl again
  ./hubgate explain -c hubgate.yaml --cert %[1]s.pem

Configurations and logs are there, too: hubgate.yaml, envoy.yaml, hubgate.log, envoy.log
`, spare.name, s.dir, serverCA, spare.host(), httpsPort, mqttPort, openHub)
}
