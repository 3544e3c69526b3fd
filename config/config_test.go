package config

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

var update = flag.Bool("update", false, "write what is printed into testdata")

// TestMistakes reads one file per mistake. What Load says of it stands beside
// it in a file .err, to the letter.
func TestMistakes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d fixtures found (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			_, err := Load(file)
			if err == nil {
				t.Fatal("the file was accepted")
			}
			var problems Problems
			if !errors.As(err, &problems) {
				t.Errorf("the error is a %T, not Problems", err)
			}
			got := strings.ReplaceAll(err.Error(), "testdata/invalid/", "") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".err"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("Load said\n%swant\n%s", got, want)
			}
		})
	}
}

// TestFull holds every key of a full file to what becomes of it.
func TestFull(t *testing.T) {
	t.Parallel()
	c, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		File:   "testdata/full.yaml",
		Domain: "iot.example.com",
		Store: Store{URL: "redis+sentinel://hubgate@redis-1:26379,redis-2:26379/main", Password: "hunter2",
			SentinelUsername: "watch", SentinelPassword: "hunter3", WaitReplicas: 1, Cert: dir + "/authz.crt", Key: dir + "/authz.key"},
		Partitions: 128,
		Authz: Authz{
			Listen:      "0.0.0.0:9191",
			TLS:         &TLS{Cert: dir + "/authz.crt", Key: dir + "/authz.key", ClientCA: dir + "/envoy-ca.pem"},
			MaxInFlight: 2048, FailuresPerMinute: 300,
			Opaque: true, OutageWindow: 5 * time.Minute,
		},
		Link: Link{
			Listen: "unix:///run/hubgate/link.sock",
			TLS:    &TLS{Cert: dir + "/authz.crt", Key: dir + "/authz.key", ClientCA: dir + "/envoy-ca.pem"},
		},
		Admin: Admin{
			Socket: "/run/hubgate/admin.sock", Listen: "0.0.0.0:9192",
			TLS:   &TLS{Cert: dir + "/authz.crt", Key: dir + "/authz.key"},
			Hosts: []string{"hubgate.example.com"}, Region: "nl-ams", TokenFile: "/run/hubgate/token",
			Tokens: []access.Configured{
				{Principal: access.Principal{Name: "ci", Role: access.Operator, Project: uuid.MustParse("6170692e-7363-416c-a577-61792e636f6d")}, Secret: sha256.Sum256([]byte("0b5cfb36-3d5a-4f5b-9a1a-8f0b3f1c2d4e"))},
			},
			Rate: 50, Failures: 5,
		},
		BrokerAuth: BrokerAuth{
			Listen:   "0.0.0.0:9195",
			TLS:      &TLS{Cert: dir + "/authz.crt", Key: dir + "/authz.key", ClientCA: dir + "/envoy-ca.pem"},
			Username: "{hub_id}:{device_name}",
			Services: []BrokerService{
				{Username: "backend", Password: "a password of a service", Topics: []string{"up/#", "down/+"}},
				{Username: "rules", Password: "a password of a service"},
			},
		},
		Metrics: Metrics{Listen: "[::]:9193"},
		Log:     Log{Level: slog.LevelWarn, JSON: true},
		Events: Events{
			Retention: Retention{MaxAge: 72 * time.Hour, Delivered: 30 * time.Minute, MaxEvents: 5000},
			Denials:   Denials{Window: 30 * time.Second, Networks: 16},
			Lease:     20 * time.Second,
			Tries:     3,
			Log:       &EventLog{Severity: provision.SeverityError},
			MQTT: []EventMQTT{{
				Name: "broker", URL: "mqtts://broker.example.com", V311: true, ClientID: "gate",
				Username: "hubgate", PasswordFile: dir + "/mqtt.password",
				TLS:   ClientTLS{CA: dir + "/envoy-ca.pem", Cert: dir + "/authz.crt", Key: dir + "/authz.key"},
				Topic: "iot/{hub_id}/{reason}", HubPrefixes: true, Severity: provision.SeverityError, Timeout: 5 * time.Second,
			}},
			Webhooks: []EventWebhook{{
				Name: "billing", URL: "https://billing.example.com/hubgate", SecretFile: dir + "/hook.secret", TokenFile: dir + "/hook.token",
				TLS: ClientTLS{CA: dir + "/envoy-ca.pem"}, Severity: provision.SeverityError, Timeout: 3 * time.Second,
			}},
		},
		CRL: CRL{Refresh: 10 * time.Minute, Networks: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}},
		Admission: Admission{
			HookCA: dir + "/envoy-ca.pem", HookSecretFile: dir + "/hook.secret",
			HookNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/48")},
		},
		Hubs: []provision.Hub{
			{
				ID: provision.DeclaredHubID("factory"), Name: "factory", Declared: "testdata/full.yaml",
				AutoProvisioning: true, UnicodeNames: true,
				Anchors: ders(t, "factory-ca.pem"), Intermediates: ders(t, "vendor-line.pem"),
				CRLSources: []string{dir + "/vendor-line.crl", "http://ca.example.com/factory.crl"},
				Policy: provision.Policy{
					Connections: provision.Reject, Keys: provision.PinKeys, Revocation: provision.RefuseUnlisted,
					MaxDevices: 500, FirstConnectionsPerSecond: 20, MaxSessionAge: 24 * time.Hour, NoOutage: true,
					CustomCertificates: true,
					Admission: []provision.AdmissionRule{
						{NamePattern: "SN-[0-9]+", Claims: provision.ClaimOnce},
						{
							Anchor: keyHash(t, "61b6baee3ac00327f769a0065d0c2167de0bacc06bf59e5aad515167641a8e39"),
							Issuer: keyHash(t, "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"),
							Hook:   "https://hook.example.com/admit",
						},
					},
				},
			},
			{
				Name: "vendor", Declared: "testdata/full.yaml",
				Disabled: true, SNIOnly: true, Anchors: ders(t, "vendor-ca.pem"),
				AnchorFacts: map[trust.Fingerprint]provision.AnchorFacts{
					trust.FingerprintOfDER(ders(t, "vendor-ca.pem")[0]): {Group: "1"},
				},
			},
		},
	}
	if want.Hubs[1].ID, err = provision.ParseHubID("0b7d5c1e-7f0e-4d53-9d4e-0d9a4b0f7c11"); err != nil {
		t.Fatal(err)
	}
	if len(c.sources) != 14 {
		t.Errorf("%d files are remembered, want the configuration and the 13 it names", len(c.sources))
	}
	c.sources = nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load gave\n%+v\nwant\n%+v", c, want)
	}
}

func keyHash(t *testing.T, text string) trust.KeyHash {
	t.Helper()
	hash, err := trust.ParseKeyHash(text)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func ders(t *testing.T, file string) [][]byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	ders, err := parseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return ders
}

func TestDefault(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "hubgate.yaml")
	if err := os.WriteFile(empty, []byte("# nothing is set\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(empty)
	want := &Config{
		Store: Store{Path: filepath.Join(dir, "hubgate.db")},
		Authz: Authz{Listen: "127.0.0.1:9191"},
		Link:  Link{Listen: "127.0.0.1:9194"},
		Admin: Admin{
			Socket: filepath.Join(dir, "hubgate.db.sock"), Listen: "127.0.0.1:9192", Region: "fr-par",
			TokenFile: filepath.Join(dir, "hubgate.token"),
		},
		BrokerAuth: BrokerAuth{Listen: "off", Username: "{hub_id}/{device_name}"},
		Metrics:    Metrics{Listen: "127.0.0.1:9193"},
	}
	c, err := Default(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Default gave\n%+v\nwant\n%+v", c, want)
	}
	c, err = Load(empty)
	if err != nil {
		t.Fatal(err)
	}
	c.File, c.sources = "", nil
	if !reflect.DeepEqual(c, want) {
		t.Errorf("an empty file gave\n%+v\nwant\n%+v", c, want)
	}
}

// TestStores reads the forms of a store that are right.
func TestStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for text, want := range map[string]Store{
		"bolt:///var/lib/hubgate.db":        {Path: "/var/lib/hubgate.db"},
		"bolt:data/hubgate.db":              {Path: dir + "/data/hubgate.db"},
		"bolt:../hubgate.db":                {Path: filepath.Dir(dir) + "/hubgate.db"},
		"redis://localhost":                 {URL: "redis://localhost"},
		"rediss://user@10.0.0.1:6380/2":     {URL: "rediss://user@10.0.0.1:6380/2"},
		"redis+cluster://a:1,b:2,[::1]:3":   {URL: "redis+cluster://a:1,b:2,[::1]:3"},
		"rediss+sentinel://a,b/main/1":      {URL: "rediss+sentinel://a,b/main/1"},
		"unix:///run/redis/redis.sock?db=1": {URL: "unix:///run/redis/redis.sock?db=1"},
	} {
		file := filepath.Join(dir, strings.NewReplacer("/", "_", ":", "_").Replace(text))
		if err := os.WriteFile(file, []byte("store: '"+text+"'\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if c.Store != want {
			t.Errorf("%s gave %+v, want %+v", text, c.Store, want)
		}
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	_, err := Load("testdata/nowhere.yaml")
	if err == nil || err.Error() != "testdata/nowhere.yaml: no such file or directory" {
		t.Errorf("Load said %v", err)
	}
}

func TestSecretStaysSecret(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	store := Store{Password: "hunter2"}
	slog.New(slog.NewTextHandler(&out, nil)).Info("store", "password", store.Password)
	text, err := json.Marshal(store)
	if err != nil {
		t.Fatal(err)
	}
	if said := out.String() + store.Password.String() + string(text); strings.Contains(said, "hunter2") {
		t.Errorf("the password is in %q", said)
	}
}

// FuzzConfig: no text makes the parser panic; a problem always has its place;
// what is accepted is accepted again, with the same result.
func FuzzConfig(f *testing.F) {
	for _, pattern := range []string{"testdata/invalid/*.yaml", "testdata/full.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		f.Fatal(err)
	}
	read := func(data []byte) (*Config, Problems) {
		l := &loader{file: "fuzz.yaml", dir: dir}
		c := l.parse(data)
		return c, l.problems.sorted()
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "/dev/") || strings.Contains(string(data), "/proc/") {
			return // files of any name are read; some of them never end
		}
		c, problems := read(data)
		again, problemsAgain := read(data)
		if !reflect.DeepEqual(problems, problemsAgain) {
			t.Fatalf("two readings found\n%v\nand\n%v", problems, problemsAgain)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Text == "" {
				t.Errorf("a problem without place or text: %+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("two readings gave\n%+v\nand\n%+v", c, again)
		}
		if found := provision.CheckHubs(c.Hubs); len(found) > 0 {
			t.Errorf("hubs were accepted that are unfit: %v", found[0])
		}
	})
}
