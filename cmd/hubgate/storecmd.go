package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hubgate/hubgate/provision/boltstore"
)

func newStore(std streams) *cobra.Command {
	return newGroup("store", "Back up, verify and restore the embedded store",
		newStoreBackup(std),
		newStoreVerify(std),
		newStoreRestore(std),
	)
}

func newStoreBackup(std streams) *cobra.Command {
	var t target
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a consistent copy of the store, while hubgate serves",
		Long: `Write a consistent copy of the embedded store to FILE, while hubgate serves or,
with --offline, while it does not. The copy is verified before it gets its name;
a file that is there already is left alone.`,
		Example: `  hubgate store backup hubgate-$(date +%F).db`,
		Args:    args("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return t.with(c.Context(), func(client *client) error {
				report, size, err := backup(c.Context(), client, args[0])
				if err != nil {
					return err
				}
				return say(std.out, "%s: %d bytes, verified: %s.\n", args[0], size, contents(report))
			})
		},
	}
	return t.flags(c, "copy the store that nobody is serving")
}

// backup receives a copy under a name of its own, verifies it, and only then
// gives it the name that was asked for.
func backup(ctx context.Context, c *client, path string) (report boltstore.Report, size int64, err error) {
	if _, err := os.Lstat(path); err == nil {
		return report, 0, fmt.Errorf("%s is there already: choose another name", path)
	}
	response, err := c.open(ctx, http.MethodPost, "/v1/store/backup", nil, nil)
	if err != nil {
		return report, 0, err
	}
	defer func() { _ = response.Body.Close() }()
	part, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*") // mode 0600
	if err != nil {
		return report, 0, err
	}
	defer func() { _ = os.Remove(part.Name()) }()
	if size, err = receive(part, response.Body); err != nil {
		return report, 0, fmt.Errorf("the backup was cut short: %w", err)
	}
	if report, err = boltstore.Verify(part.Name()); err != nil {
		return report, 0, fmt.Errorf("the copy is not in order: %w", err)
	}
	// A link, unlike a rename, never replaces what somebody put there meanwhile.
	return report, size, os.Link(part.Name(), path)
}

func receive(file *os.File, from io.Reader) (int64, error) {
	w := bufio.NewWriterSize(file, 1<<20)
	n, err := io.Copy(w, from)
	return n, errors.Join(err, w.Flush(), file.Sync(), file.Close())
}

func contents(r boltstore.Report) string {
	return fmt.Sprintf("%s, %s, %s", count(r.Hubs, "hub"), count(r.Devices, "device"), count(r.Events, "event"))
}

func newStoreVerify(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check every record of a store or backup that nobody serves",
		Args:  args("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := boltstore.Verify(args[0])
			if err != nil {
				return err
			}
			return say(std.out, "%s is in order: %s.\n", args[0], contents(report))
		},
	}
}

func newStoreRestore(std streams) *cobra.Command {
	var config string
	var force bool
	c := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Put a backup in the place of the store, while hubgate does not serve",
		Long: `Verify BACKUP and put a copy of it in the place of the embedded store, in one
step. hubgate must not be serving. What happened since the backup is lost:
devices that provisioned themselves since do so again and are announced again,
and devices that were disabled since are enabled.`,
		Example: `  hubgate store restore hubgate-2026-01-31.db --config hubgate.yaml --force`,
		Args:    args("BACKUP"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loadConfig(config)
			if err != nil {
				return err
			}
			if c.Store.Path == "" {
				return errors.New("the store is a Redis, which has its own means to restore")
			}
			report, err := boltstore.Restore(args[0], c.Store.Path, force)
			if err != nil {
				return err
			}
			return say(std.out, "%s is restored: %s. Start `hubgate serve`.\n", c.Store.Path, contents(report))
		},
	}
	c.Flags().StringVarP(&config, "config", "c", "", "configuration file, to find the store (default: ./hubgate.db)")
	c.Flags().BoolVar(&force, "force", false, "replace the store that is there")
	return c
}
