package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
)

func newToken(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("token", "Make, list, rotate and revoke the tokens of administrators",
		newTokenList(&t, std),
		newTokenCreate(&t, std),
		newTokenRotate(&t, std),
		newTokenRevoke(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

func newTokenList(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without their secrets",
		Long:  `List the stored tokens. Those of the configuration (admin.tokens) are not among them.`,
		Args:  args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return t.with(c.Context(), func(client *client) error {
				list, err := client.tokens(c.Context())
				if err != nil {
					return err
				}
				return o.print(std.out, list, func() error { return printTokens(std.out, list.Tokens) })
			})
		},
	}
	o.flag(c)
	return c
}

func (c *client) tokens(ctx context.Context) (list admin.Tokens, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/tokens", nil, nil, &list)
	return list, err
}

func printTokens(w io.Writer, tokens []admin.Token) error {
	if len(tokens) == 0 {
		return say(w, "There are no tokens. Make one with `hubgate token create NAME --role ROLE`.\n")
	}
	var t table
	t.row("NAME", "ROLE", "PROJECT", "CREATED", "ROTATED", "ID")
	for _, token := range tokens {
		project, rotated := "all", "never"
		if token.ProjectID != "" {
			project = token.ProjectID
		}
		if token.RotatedAt != nil {
			rotated = clock(*token.RotatedAt)
		}
		t.row(token.Name, token.Role, project, clock(token.CreatedAt), rotated, token.ID)
	}
	return t.print(w)
}

func newTokenCreate(t *target, std streams) *cobra.Command {
	var (
		o    output
		body admin.NewToken
	)
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token, and print its secret: it is told this once",
		Long: `Make a token, and print its secret to standard output: it is told this once, and
hubgate keeps only its hash.

A viewer reads everything; an operator looks after devices and sessions, and
turns hubs on and off; an admin does everything.`,
		Example: `  hubgate token create ci --role operator > ci.token
  hubgate token create shop --role admin --project 6170692e-7363-416c-a577-61792e636f6d`,
		Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			body.Name = args[0]
			return t.with(c.Context(), func(client *client) error {
				var made admin.Token
				if err := client.call(c.Context(), http.MethodPost, "/v1/tokens", nil, body, &made); err != nil {
					return err
				}
				return printSecret(std, o, made, fmt.Sprintf("Token %s is made. Keep its secret: it is not told again.\n", made.Name))
			})
		},
	}
	o.flag(c)
	c.Flags().StringVar(&body.Role, "role", "", "viewer, operator or admin (required)")
	c.Flags().StringVar(&body.ProjectID, "project", "", "the only project (UUID) whose hubs the token sees; without it, all")
	_ = c.MarkFlagRequired("role") // fails only for a flag that is not there
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"viewer", "operator", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// printSecret prints the secret alone, for a file; what people are told goes
// elsewhere.
func printSecret(std streams, o output, t admin.Token, told string) error {
	return o.print(std.out, t, func() error {
		if err := say(std.err, "%s", told); err != nil {
			return err
		}
		return say(std.out, "%s\n", t.Secret)
	})
}

func newTokenRotate(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:               "rotate TOKEN",
		Short:             "Give a token another secret, and print it",
		Long:              `Give a token (name or ID) another secret, and print it to standard output. The old one is dead within two seconds, on every replica.`,
		Args:              args("TOKEN"),
		ValidArgsFunction: t.completeTokens,
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				id, err := client.tokenID(c.Context(), args[0])
				if err != nil {
					return err
				}
				var rotated admin.Token
				if err := client.call(c.Context(), http.MethodPost, "/v1/tokens/"+url.PathEscape(id)+"/rotate", nil, nil, &rotated); err != nil {
					return err
				}
				return printSecret(std, o, rotated, fmt.Sprintf("Token %s has another secret; the old one is dead.\n", rotated.Name))
			})
		},
	}
	o.flag(c)
	return c
}

func newTokenRevoke(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "revoke TOKEN",
		Short:             "Revoke a token",
		Long:              `Revoke a token (name or ID). It is dead within two seconds, on every replica; what it follows ends.`,
		Args:              args("TOKEN"),
		ValidArgsFunction: t.completeTokens,
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				id, err := client.tokenID(c.Context(), args[0])
				if err != nil {
					return err
				}
				if err := client.call(c.Context(), http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, nil); err != nil {
					return err
				}
				return say(std.out, "Token %s is revoked.\n", args[0])
			})
		},
	}
}

// tokenID finds a token by name; what is no name is taken for an ID.
func (c *client) tokenID(ctx context.Context, nameOrID string) (string, error) {
	list, err := c.tokens(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range list.Tokens {
		if t.Name == nameOrID || t.ID == nameOrID {
			return t.ID, nil
		}
	}
	return "", &apiError{status: http.StatusNotFound, Code: "not_found", Message: fmt.Sprintf("token %q not found: see `hubgate token list`", nameOrID)}
}

// completeTokens suggests the names of tokens.
func (t *target) completeTokens(c *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
	defer cancel()
	var names []string
	err := t.with(ctx, func(client *client) error {
		list, err := client.tokens(ctx)
		for _, token := range list.Tokens {
			names = append(names, token.Name)
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
