// Command bench measures hubgate beside what it could be at best: a stock server
// that allows everything, a server that decodes nothing, a bare read of a store.
// Both sides run in the same run, on the same machine, and are asked the same
// questions. Ratios are what counts; the absolute figures are the machine's.
//
//	go run ./bench            every case, some minutes
//	go run ./bench -list      what there is
//	go run ./bench -run known,envoy -long 5s -json out.json
//
// The servers that are compared, with the Envoy in front of them, run on all
// processors but the last; the generator, the broker and the backend on the last.
// Each case is measured in rounds that take turns between the sides, so that what
// else happens on the machine happens to all; a figure is the median of its
// rounds, a ratio the median of the rounds' ratios, with their quartiles.
//
// A new case is a row of the table in cases.go: a function that fills in the
// columns, the rows and the targets of a [result].
package main
