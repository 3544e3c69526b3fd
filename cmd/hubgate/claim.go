package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/admin/fleet"
)

func newClaim(std streams) *cobra.Command {
	var t target
	return t.flags(newGroup("claim", "Keep the list of names that may provision themselves on a hub",
		newClaimImport(&t, std),
		newClaimList(&t, std),
		newClaimRemove(&t, std),
		newClaimClear(&t, std),
	), "work on the embedded store, which nobody may be serving")
}

func newClaimImport(t *target, std streams) *cobra.Command {
	f := &importFlags{target: t, std: std, path: "/claims", kind: "text/plain", counts: func(c fleet.ImportCounts) string {
		return fmt.Sprintf("%d added, %d on the list already, %d refused", c.Created, c.Unchanged, c.Refused)
	}}
	var objects bool
	c := &cobra.Command{
		Use:   "import HUB FILE",
		Short: "Put names on a hub's claim list out of a file",
		Long: `Put names on a hub's claim list out of a file with a name on each line; - is
standard input. The list binds only where an admission rule of the hub's policy
says so (claims: listed or once), and never a device that is known.

Importing the same again changes nothing: a claim that was used stays used. Remove
it and put it on the list again to let its device create itself once more.

A line that is wrong is told with its number and the reason, goes into --rejects,
and does not keep the others. When hubgate goes away, the command says from which
line --from-line goes on. Exit code 8: some lines were refused.`,
		Example: `  hubgate claim import factory serials.txt --rejects rejected.txt
  hubgate claim import factory claims.ndjson --ndjson`,
		RunE: func(c *cobra.Command, args []string) error {
			if objects {
				f.kind = ndjson
			}
			return f.run(c.Context(), args[0], args[1])
		},
	}
	f.add(c)
	c.Flags().BoolVar(&objects, "ndjson", false, `the lines are JSON objects: {"name": "SN-0001"}`)
	return c
}

func newClaimList(t *target, std streams) *cobra.Command {
	var (
		o     output
		limit int
	)
	c := &cobra.Command{
		Use:               "list HUB",
		Short:             "List a hub's claim list, in no order",
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 0 {
				return usage("--limit: %d is negative; 0 lists all", limit)
			}
			return t.with(c.Context(), func(client *client) error {
				list, err := client.claims(c.Context(), args[0], limit)
				if err != nil {
					return err
				}
				return o.print(std.out, list, func() error { return printClaims(std.out, args[0], list) })
			})
		},
	}
	o.flag(c)
	c.Flags().IntVar(&limit, "limit", 100, "list so many; 0 lists all")
	return c
}

// claims lists up to limit claims, all if it is 0.
func (c *client) claims(ctx context.Context, hub string, limit int) (admin.Claims, error) {
	all := admin.Claims{Claims: []admin.Claim{}}
	query := url.Values{"limit": {strconv.Itoa(apiPage)}}
	for {
		var page admin.Claims
		if err := c.call(ctx, http.MethodGet, hubPath(hub)+"/claims", query, nil, &page); err != nil {
			return all, err
		}
		all.Claims, all.Total = append(all.Claims, page.Claims...), page.Total
		if limit > 0 && len(all.Claims) >= limit {
			all.Claims = all.Claims[:limit]
			return all, nil
		}
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}

func printClaims(w io.Writer, hub string, list admin.Claims) error {
	if list.Total == 0 {
		return say(w, "Hub %s has no claims. Where an admission rule asks for one, nothing new gets in: see `hubgate claim import`.\n", hub)
	}
	var t table
	t.row("NAME", "USED")
	for _, c := range list.Claims {
		t.row(c.Name, yesNo(c.Used))
	}
	if err := t.print(w); err != nil || len(list.Claims) >= list.Total {
		return err
	}
	return say(w, "\n%d of %d: --limit 0 lists all.\n", len(list.Claims), list.Total)
}

func newClaimRemove(t *target, std streams) *cobra.Command {
	var o output
	c := &cobra.Command{
		Use:   "remove HUB NAME...",
		Short: "Take names off a hub's claim list",
		Long: `Take names off a hub's claim list. A device of such a name stays, if there is
one: use ` + "`hubgate device disable`" + ` to keep it out.`,
		Args: func(_ *cobra.Command, given []string) error {
			if len(given) < 2 {
				return usage("%d arguments given, wanted: HUB NAME...", len(given))
			}
			return nil
		},
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				var answer admin.ClaimsRemoved
				names := args[1:]
				err := client.call(c.Context(), http.MethodPost, hubPath(args[0])+"/claims/remove", nil, admin.ClaimNames{Names: names}, &answer)
				if err != nil {
					return err
				}
				return o.print(std.out, answer, func() error {
					return say(std.out, "%d of %s taken off the claim list of hub %s.\n", answer.Removed, count(len(names), "name"), args[0])
				})
			})
		},
	}
	o.flag(c)
	return c
}

func newClaimClear(t *target, std streams) *cobra.Command {
	return &cobra.Command{
		Use:               "clear HUB",
		Short:             "Take all names off a hub's claim list",
		Args:              args("HUB"),
		ValidArgsFunction: t.completeHubs(nil),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				if err := client.call(c.Context(), http.MethodDelete, hubPath(args[0])+"/claims", nil, nil, nil); err != nil {
					return err
				}
				return say(std.out, "The claim list of hub %s is empty.\n", args[0])
			})
		},
	}
}
