package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp holds the help of every command.
func TestHelp(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	var visit func(c *cobra.Command, path ...string)
	visit = func(c *cobra.Command, path ...string) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		all.WriteString("$ hubgate " + strings.Join(append(path, "--help"), " ") + "\n")
		all.WriteString(hubgate(t, append(path, "--help")...).ok(t) + "\n")
		for _, child := range c.Commands() {
			visit(child, append(path[:len(path):len(path)], child.Name())...)
		}
	}
	visit(newRoot(streams{}))
	golden(t, "help.txt", all.String())
}

// TestMistakes holds what is said of command lines that make no sense, and of
// commands that cannot be done.
func TestMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good := s.chain("good.pem", s.factory.device(t, "SN-0001")...)
	secret := writeFile(t, s.dir, "secret.pem", []byte("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"))
	text := writeFile(t, s.dir, "text.pem", []byte("hello\n"))
	broken := writeFile(t, s.dir, "broken.yaml", []byte("domian: x\nlog: {level: loud}\n"))
	redis := writeFile(t, s.dir, "redis.yaml", []byte("store: redis://127.0.0.1:1\n"))
	long := writeFile(t, s.dir, "long.yaml", []byte("store: bolt:///"+strings.Repeat("a", 110)+".db\n"))

	notRunning := "hubgate: hubgate is not running here: nobody answers at " + s.dir + "/hubgate.db.sock (no such file or directory)." +
		" Start `hubgate serve`, or pass --config, --socket, --url or --offline\n"
	noStore := "hubgate: no store at " + s.dir + "/hubgate.db: hubgate has not run here, or pass the --config it runs with\n"
	mistakes := broken + ":1: domian: unknown key: did you mean domain?\n" +
		broken + ":2: log.level: \"loud\" is none of debug, info, warn, error\n"
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"bogus"}, 2, "hubgate: unknown command \"bogus\"\nSee `hubgate --help`.\n"},
		{[]string{"serv"}, 2, "hubgate: unknown command \"serv\": did you mean serve or cert?\nSee `hubgate --help`.\n"},
		{[]string{"device", "ls"}, 2, "hubgate: unknown command \"ls\": did you mean list?\nSee `hubgate device --help`.\n"},
		{[]string{"device", "list"}, 2, "hubgate: 0 arguments given, wanted: HUB\nSee `hubgate device list --help`.\n"},
		{[]string{"version", "now"}, 2, "hubgate: 1 arguments given, wanted: no arguments\nSee `hubgate version --help`.\n"},
		{[]string{"hub", "list", "--bogus"}, 2, "hubgate: unknown flag: --bogus\nSee `hubgate hub list --help`.\n"},
		{[]string{"hub", "list", "-o", "xml"}, 2, "hubgate: invalid argument \"xml\" for \"-o, --output\" flag: \"xml\" is none of table, json, yaml\nSee `hubgate hub list --help`.\n"},
		{[]string{"serve", "--log-format", "xml", "-c", s.config}, 2, "hubgate: --log-format: \"xml\" is neither text nor json\nSee `hubgate serve --help`.\n"},
		{[]string{"serve", "--log-level", "loud", "-c", s.config}, 2, "hubgate: --log-level: \"loud\" is none of debug, info, warn, error\nSee `hubgate serve --help`.\n"},
		{[]string{"explain"}, 2, "hubgate: --cert is missing: name the PEM file that the device presents\nSee `hubgate explain --help`.\n"},
		{[]string{"hub", "list", "--offline", "--socket", "x"}, 2, "hubgate: --offline goes without a socket, address or context: leave one of the two out\nSee `hubgate hub list --help`.\n"},
		{[]string{"envoy", "config", "--no-https", "--no-mqtt", "--cert", "a", "--cert", "b", "--admin", "0.0.0.0:1", "--hubgate", "x", "--hubgate-key", "k"}, 2,
			"hubgate: --no-https, --no-mqtt: nothing is left to listen on\n--cert, --key: 1 key for 2 certificates\n" +
				"--hubgate-cert, --hubgate-key, --hubgate-name: need --hubgate-ca\n" +
				"--hubgate: \"x\" is neither host:port nor unix:///path\n" +
				"--admin: \"0.0.0.0:1\" is neither a loopback address with a port nor unix:///path\nSee `hubgate envoy config --help`.\n"},

		{[]string{"serve", "-c", s.dir + "/nowhere.yaml"}, 1, "hubgate: " + s.dir + "/nowhere.yaml: no such file or directory\n"},
		{[]string{"serve", "-c", broken}, 1, "hubgate: " + mistakes},
		{[]string{"serve", "-c", long}, 1, "hubgate: " + long + ":1: store: its socket \"/" + strings.Repeat("a", 110) + ".db.sock\" is 119 bytes long, but a Unix socket's path can have 107: set admin.socket to a shorter one\n"},
		{[]string{"config", "check", broken}, 1, "hubgate: 2 mistakes in " + broken + "\n"},
		{[]string{"hub", "list", "-c", s.config}, 7, notRunning},
		{[]string{"event", "tail", "-c", s.config}, 7, notRunning},
		{[]string{"hub", "list", "-c", s.config, "--offline"}, 1, noStore},
		{[]string{"hub", "list", "-c", redis, "--offline"}, 1, "hubgate: the store is a Redis, which is never offline: leave --offline out, and run the command where hubgate serves\n"},
		{[]string{"store", "restore", "x", "-c", redis}, 1, "hubgate: the store is a Redis, which has its own means to restore\n"},
		{[]string{"store", "backup", good, "--offline", "-c", s.config}, 1, noStore},
		{[]string{"explain", "--cert", secret, "-c", s.config}, 1, "hubgate: --cert: " + secret + " holds a private key, which is not needed and was not sent anywhere: name a file with the certificates alone\n"},
		{[]string{"explain", "--cert", text, "-c", s.config}, 1, "hubgate: --cert: " + text + " holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)\n"},
		{[]string{"explain", "--cert", s.dir + "/nowhere.pem"}, 1, "hubgate: --cert: open " + s.dir + "/nowhere.pem: no such file or directory\n"},
		{[]string{"explain", "--cert", good, "-c", s.config, "--offline", "--protocol", "mqtt"}, 1, "hubgate: protocol: \"mqtt\" is neither http nor tcp\n"},
		{[]string{"explain", "--cert", good, "-c", s.config, "--offline", "--source", "home"}, 1, "hubgate: source: \"home\" is no IP address\n"},
	} {
		t.Run(strings.ReplaceAll(strings.Join(tt.args, " "), s.dir, ""), func(t *testing.T) {
			t.Parallel()
			hubgate(t, tt.args...).fails(t, tt.code, tt.err)
		})
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.golden("config-check.txt", hubgate(t, "config", "check", s.config).ok(t))
	empty := writeFile(t, s.dir, "empty.yaml", nil)
	s.golden("config-check-empty.txt", hubgate(t, "config", "check", empty).ok(t))
}

func TestEnvoyConfig(t *testing.T) {
	t.Parallel()
	printed := hubgate(t, "envoy", "config", "--domain", "iot.example.com", "--no-https").ok(t)
	if !strings.Contains(printed, "port_value: 8883") || strings.Contains(printed, "port_value: 8443") {
		t.Errorf("no configuration for MQTT alone:\n%s", printed)
	}
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	hubgate(t, "envoy", "config", "--domain", "iot.example.com", "--no-https", "-o", file).ok(t)
	written, err := os.ReadFile(file)
	if err != nil || string(written) != printed {
		t.Errorf("the file differs from what is printed (%v)", err)
	}
	hubgate(t, "envoy", "config", "-o", file).fails(t, exitError, "hubgate: "+file+" is there already: choose another name, or --force\n")
	hubgate(t, "envoy", "config", "-o", file, "--force").ok(t)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if out := hubgate(t, "version").ok(t); !strings.HasPrefix(out, "hubgate ") || !strings.Contains(out, "built with go") {
		t.Errorf("printed %s", out)
	}
}
