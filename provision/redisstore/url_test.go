package redisstore

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]target{
		"redis://db":                     {network: "tcp", addresses: []string{"db:6379"}},
		"redis://db:7000/3":              {network: "tcp", addresses: []string{"db:7000"}, db: 3},
		"rediss://hub%40gate@db/0":       {network: "tcp", tls: true, username: "hub@gate", addresses: []string{"db:6379"}},
		"redis://[::1]:7000/":            {network: "tcp", addresses: []string{"[::1]:7000"}},
		"redis://[::1]":                  {network: "tcp", addresses: []string{"[::1]:6379"}},
		"unix:///run/redis/redis.sock":   {network: "unix", addresses: []string{"/run/redis/redis.sock"}},
		"unix://hubgate@/run/s?db=2":     {network: "unix", username: "hubgate", addresses: []string{"/run/s"}, db: 2},
		"redis+sentinel://a,b:26380/m":   {mode: sentinel, network: "tcp", master: "m", addresses: []string{"a:26379", "b:26380"}},
		"rediss+sentinel://u@a,b/m/1":    {mode: sentinel, network: "tcp", tls: true, username: "u", master: "m", db: 1, addresses: []string{"a:26379", "b:26379"}},
		"redis+cluster://a:1,b:2,[::3]":  {mode: cluster, network: "tcp", addresses: []string{"a:1", "b:2", "[::3]:6379"}},
		"rediss+cluster://u@a.example/":  {mode: cluster, network: "tcp", tls: true, username: "u", addresses: []string{"a.example:6379"}},
		"redis+sentinel://10.0.0.1/m%2d": {mode: sentinel, network: "tcp", master: "m-", addresses: []string{"10.0.0.1:26379"}},
	} {
		got, err := parseURL(url)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", url, got, err, want)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"localhost:6379":             "no scheme",
		"http://db":                  `unknown scheme "http"`,
		"redis://":                   `"" is no address`,
		"redis://a,b":                "use redis+cluster:// or redis+sentinel://",
		"redis://db:99999":           "no valid port",
		"redis://db:port":            "no valid port",
		"redis://db/x":               `"x" is no database number`,
		"redis://db/-1":              `"-1" is no database number`,
		"redis://u:secret@db":        "put that in a file",
		"redis://db?cluster=true":    `unknown parameter "cluster"`,
		"redis://db/0#x":             "unexpected #",
		"unix://relative":            "want unix:///path/to/socket",
		"unix://":                    "want unix:///path/to/socket",
		"unix:///s?db=one":           `"one" is no database number`,
		"redis+sentinel://a":         "name the master",
		"redis+sentinel://a/m/n":     `"n" is no database number`,
		"redis+cluster://a/1":        "a cluster has no databases",
		"redis+cluster://a,,b":       `"" is no address`,
		"redis://%zz:secret@db":      "cannot be read",
		"redis://u:secret@db:x:y/z/": "put that in a file",
	} {
		_, err := parseURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", url, err)
		}
	}
}
