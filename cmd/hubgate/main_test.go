package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// processVariable makes the test binary a hubgate.
const processVariable = "HUBGATE_TEST_IS_HUBGATE"

// TestMain runs the tests, out of reach of whatever this person's environment
// says, or is a hubgate of its own for those tests that need an environment.
func TestMain(m *testing.M) {
	if os.Getenv(processVariable) != "" {
		main()
	}
	os.Exit(alone(m))
}

func alone(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hubgate-config-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, name := range []string{socketVariable, urlVariable, tokenVariable, tokenFileVariable, caFileVariable} {
		_ = os.Unsetenv(name)
	}
	_ = os.Setenv("XDG_CONFIG_HOME", dir)
	return m.Run()
}

// person is somebody with an environment: a process of its own runs each
// command.
type person struct {
	t   *testing.T
	env []string
}

func newPerson(t *testing.T, env ...string) *person {
	return &person{t, append(env, "XDG_CONFIG_HOME="+t.TempDir(), processVariable+"=1", "PATH="+os.Getenv("PATH"))}
}

func (p *person) configFile() string {
	for _, v := range p.env {
		if dir, ok := strings.CutPrefix(v, "XDG_CONFIG_HOME="); ok {
			return filepath.Join(dir, "hubgate", "config.yaml")
		}
	}
	return ""
}

// with is that person with more in the environment.
func (p *person) with(env ...string) *person {
	return &person{p.t, append(p.env[:len(p.env):len(p.env)], env...)}
}

func (p *person) hubgate(args ...string) result { return p.hubgateIn("", args...) }

func (p *person) hubgateIn(stdin string, args ...string) result {
	p.t.Helper()
	var out, errs bytes.Buffer
	c := exec.CommandContext(p.t.Context(), os.Args[0], args...)
	c.Env, c.Stdin, c.Stdout, c.Stderr, c.Dir = p.env, strings.NewReader(stdin), &out, &errs, p.t.TempDir()
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}
