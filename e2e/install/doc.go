// Package install tests what an operator does to an installation while devices
// connect: rolling restarts, a failover of the store, an upgrade.
package install
