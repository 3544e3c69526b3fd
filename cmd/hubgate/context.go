package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
)

// contexts is the file in which a person keeps the hubgates they administer.
type contexts struct {
	Current  string   `yaml:"current,omitempty"`
	Contexts []remote `yaml:"contexts"`
}

// contextsFile is $XDG_CONFIG_HOME/hubgate/config.yaml.
func contextsFile() (string, error) {
	dir := os.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("contexts: %w: set XDG_CONFIG_HOME", err)
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "hubgate", "config.yaml"), nil
}

// loadContexts reads the file. One that is not there holds none.
func loadContexts() (c contexts, path string, err error) {
	if path, err = contextsFile(); err != nil {
		return c, "", err
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, path, nil
	case err != nil:
		return c, path, fmt.Errorf("contexts: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		// Not the parser's own words: they quote the line, which may be a token.
		return c, path, fmt.Errorf("contexts: %s cannot be read: it has to be as `hubgate context add` writes it", path)
	}
	return c, path, nil
}

// save replaces the file in one step. Nobody else may read it: tokens may be in
// it.
func (c contexts) save(path string) error {
	var text bytes.Buffer
	e := yaml.NewEncoder(&text)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(c), e.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), ".config.yaml.part-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }()
	_, err = part.Write(text.Bytes())
	if err := errors.Join(err, part.Sync(), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

func (c contexts) find(name string) (int, error) {
	i := slices.IndexFunc(c.Contexts, func(r remote) bool { return r.Name == name })
	if i < 0 {
		return i, fmt.Errorf("there is no context %q: see `hubgate context list`", name)
	}
	return i, nil
}

func newContext(std streams) *cobra.Command {
	c := newGroup("context", "Keep the addresses of the hubgates you administer",
		newContextAdd(std),
		newContextUse(std),
		newContextList(std),
		newContextRemove(std),
	)
	c.Long = `Keep the addresses of the hubgates you administer, and where their tokens are, in
$XDG_CONFIG_HOME/hubgate/config.yaml (mode 0600). What names a hubgate, first to
last: flags, the environment (HUBGATE_URL, HUBGATE_SOCKET), the current context,
the socket of the hubgate that serves here.`
	return c
}

func newContextAdd(std streams) *cobra.Command {
	var (
		r     remote
		stdin bool
		use   bool
	)
	c := &cobra.Command{
		Use:   "add NAME --url URL",
		Short: "Add or replace a context",
		Long: `Add a context, or replace the one of that name. Its token stays in a file of
yours (--token-file), or is read from standard input and kept with the context;
it is never printed. The first context becomes the current one.`,
		Example: `  hubgate context add prod --url https://hubgate.example.com:9192 --token-file ~/prod.token
  hubgate context add lab --url http://127.0.0.1:9192 --token-stdin < hubgate.token`,
		Args: args("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			r.Name = args[0]
			if err := r.complete(stdin, std.in); err != nil {
				return err
			}
			all, path, err := loadContexts()
			if err != nil {
				return err
			}
			if i, err := all.find(r.Name); err == nil {
				all.Contexts[i] = r
			} else {
				all.Contexts = append(all.Contexts, r)
			}
			if use || len(all.Contexts) == 1 {
				all.Current = r.Name
			}
			if err := all.save(path); err != nil {
				return fmt.Errorf("contexts: %w", err)
			}
			if all.Current == r.Name {
				return say(std.out, "Context %s is kept, and is the current one. Try `hubgate hub list`.\n", r.Name)
			}
			return say(std.out, "Context %s is kept. Make it the current one with `hubgate context use %s`.\n", r.Name, r.Name)
		},
	}
	flags := c.Flags()
	flags.StringVar(&r.URL, "url", "", "its address: https://HOST:9192")
	flags.StringVar(&r.TokenFile, "token-file", "", "file with its token")
	flags.BoolVar(&stdin, "token-stdin", false, "read the token from standard input and keep it in the context")
	flags.StringVar(&r.CAFile, "ca-file", "", "CA of its certificate, PEM (default: the system's)")
	flags.BoolVar(&r.PlainHTTP, "plain-http", false, "send the token unencrypted, over http://, to another host")
	flags.BoolVar(&use, "use", false, "make it the current one")
	return c
}

// complete checks a context and makes its paths independent of the working
// directory.
func (r *remote) complete(stdin bool, in io.Reader) (err error) {
	if r.URL == "" {
		return usage("--url is missing: write https://HOST:9192")
	}
	if _, err := r.check(); err != nil {
		return usage("--url: %w", err)
	}
	if stdin && r.TokenFile != "" {
		return usage("--token-file, --token-stdin: leave one of the two out")
	}
	if stdin {
		if r.Token, err = readSecret(in); err != nil {
			return fmt.Errorf("--token-stdin: %w", err)
		}
	}
	for _, file := range []*string{&r.TokenFile, &r.CAFile} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return err
		}
	}
	c, err := r.open() // a mistake is better told now than at the first use
	if err != nil {
		return err
	}
	return c.close()
}

func newContextUse(std streams) *cobra.Command {
	var none bool
	c := &cobra.Command{
		Use:   "use NAME",
		Short: "Make a context the current one",
		Example: `  hubgate context use prod
  hubgate context use --none    administer the hubgate that serves here`,
		Args: func(c *cobra.Command, given []string) error {
			if none {
				return args()(c, given)
			}
			return args("NAME")(c, given)
		},
		ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, path, err := loadContexts()
			if err != nil {
				return err
			}
			all.Current = ""
			if !none {
				if _, err := all.find(args[0]); err != nil {
					return err
				}
				all.Current = args[0]
			}
			if err := all.save(path); err != nil {
				return fmt.Errorf("contexts: %w", err)
			}
			if none {
				return say(std.out, "No context is the current one: commands work on the hubgate that serves here.\n")
			}
			return say(std.out, "Context %s is the current one.\n", all.Current)
		},
	}
	c.Flags().BoolVar(&none, "none", false, "have no current context")
	return c
}

// shownContext is a context without its secret.
type shownContext struct {
	Name      string `json:"name"`
	Current   bool   `json:"current"`
	URL       string `json:"url"`
	TokenFile string `json:"token_file,omitempty"`
	// HasToken tells that the token is kept in the context itself.
	HasToken  bool   `json:"has_token"`
	CAFile    string `json:"ca_file,omitempty"`
	PlainHTTP bool   `json:"plain_http,omitempty"`
}

func newContextList(std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "list",
		Short: "List the contexts, without their tokens",
		Args:  args(),
		RunE: func(*cobra.Command, []string) error {
			all, _, err := loadContexts()
			if err != nil {
				return err
			}
			shown := make([]shownContext, len(all.Contexts))
			for i, r := range all.Contexts {
				shown[i] = shownContext{r.Name, r.Name == all.Current, r.URL, r.TokenFile, r.Token != "", r.CAFile, r.PlainHTTP}
			}
			return o.print(std.out, map[string]any{"contexts": shown}, func() error { return printContexts(std.out, shown) })
		},
	}
	o.flag(c)
	return c
}

func printContexts(w io.Writer, all []shownContext) error {
	if len(all) == 0 {
		return say(w, "There are no contexts. Add one with `hubgate context add NAME --url https://HOST:9192 --token-file FILE`.\n")
	}
	var t table
	t.row("CURRENT", "NAME", "URL", "TOKEN")
	for _, c := range all {
		current, token := "", "none"
		if c.Current {
			current = "*"
		}
		switch {
		case c.TokenFile != "":
			token = c.TokenFile
		case c.HasToken:
			token = "kept here"
		}
		t.row(current, c.Name, c.URL, token)
	}
	return t.print(w)
}

func newContextRemove(std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Forget a context",
		Args:              args("NAME"),
		ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			all, path, err := loadContexts()
			if err != nil {
				return err
			}
			i, err := all.find(args[0])
			if err != nil {
				return err
			}
			all.Contexts = slices.Delete(all.Contexts, i, i+1)
			was := all.Current == args[0]
			if was {
				all.Current = ""
			}
			if err := all.save(path); err != nil {
				return fmt.Errorf("contexts: %w", err)
			}
			if was {
				return say(std.out, "Context %s is forgotten. It was the current one: commands now work on the hubgate that serves here.\n", args[0])
			}
			return say(std.out, "Context %s is forgotten.\n", args[0])
		},
	}
}
