// Command bench measures what a check costs: hubgate beside a stock server that
// allows everything, in the same run, on the same machine, asked the same
// questions. Ratios are what counts; the absolute figures are the machine's.
//
//	go run ./bench            every case, some minutes
//	go run ./bench -list      what there is
//	go run ./bench -run known -long 5s -json out.json
//
// Server and generator run on processors of their own. Each case is measured in
// rounds that take turns between the servers, so that what else happens on the
// machine happens to both; a figure is the median of its rounds.
package main
