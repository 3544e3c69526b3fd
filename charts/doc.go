// Package charts holds the Helm chart to what it promises: its tests render it
// with Helm itself, and give what comes out to the programs that would read it.
package charts
