package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"text/tabwriter"
)

// screen is where people read. That nobody reads any more stops nothing.
type screen struct{ io.Writer }

func (s screen) say(format string, args ...any) { _, _ = fmt.Fprintf(s, format+"\n", args...) }

// show prints a table whose first row is its head.
func (s screen) show(rows [][]string) {
	w := tabwriter.NewWriter(s, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = io.WriteString(w, strings.Join(row, "\t")+"\n")
	}
	_ = w.Flush()
}

// report prints what happened, and what hubgate's own commands say about it.
func (s *site) report(ctx context.Context, screen screen, rows []row) error {
	happened := [][]string{{"PROTOCOL", "DEVICE", "WHAT", "OUTCOME", "REASON"}}
	for _, r := range rows {
		reason := string(r.reason)
		if r.err != nil {
			reason += " (UNEXPECTED: " + r.err.Error() + ")"
		}
		happened = append(happened, []string{r.protocol, r.device.name, r.what, r.outcome, reason})
	}
	screen.say("")
	screen.show(happened)

	devices := [][]string{{"NAME", "HUB", "DESCRIPTION", "ID"}}
	for _, hub := range []string{openHub, closedHub} {
		list, err := s.devices(ctx, hub)
		if err != nil {
			return err
		}
		devices = append(devices, list...)
	}
	screen.say("\nThe devices that exist now:")
	screen.show(devices)

	events, err := s.ask(ctx, "event", "tail", "--since", "start", "--follow=false")
	if err != nil {
		return err
	}
	screen.say("\nTheir events:\n%s", bytes.TrimSuffix(events, []byte("\n")))
	return nil
}

// devices are the devices of a hub: name, hub, description and ID.
func (s *site) devices(ctx context.Context, hub string) ([][]string, error) {
	text, err := s.ask(ctx, "device", "list", hub, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Devices []struct{ ID, Name, Description string }
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("hubgate device list: %w", err)
	}
	var rows [][]string
	for _, d := range list.Devices {
		rows = append(rows, []string{d.Name, hub, d.Description, d.ID})
	}
	return rows, nil
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
func (s *site) suggest(screen screen, spare *device) {
	_, httpsPort, _ := strings.Cut(s.https, ":")
	_, mqttPort, _ := strings.Cut(s.mqtt, ":")
	screen.say(`
Everything stays up until Ctrl-C. %[1]s has not connected yet; in another terminal:

  cd %[2]s
  ./hubgate event tail -c hubgate.yaml &
  curl -s --cacert %[3]s --cert %[1]s.pem --key %[1]s.key --resolve %[4]s:%[5]s:127.0.0.1 https://%[4]s:%[5]s/
  mosquitto_pub -h 127.0.0.1 -p %[6]s --cafile %[3]s --cert %[1]s.pem --key %[1]s.key -i %[1]s -t devices/%[1]s -m 21.5 -d
  ./hubgate device list %[7]s -c hubgate.yaml
  ./hubgate session list -c hubgate.yaml
  ./hubgate device disable %[7]s %[1]s -c hubgate.yaml    # ends its connections; then try curl again
  ./hubgate explain -c hubgate.yaml --cert %[1]s.pem

Configurations and logs are there, too: hubgate.yaml, envoy.yaml, hubgate.log, envoy.log`, spare.name, s.dir, serverCA, spare.host(), httpsPort, mqttPort, openHub)
}
