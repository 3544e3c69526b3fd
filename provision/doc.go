// Package provision is hubgate's domain: hubs, devices, hub events, and the
// decision whether a device may connect.
//
// Decide is pure: it looks at facts and returns a Decision. Gate surrounds it
// with what needs I/O: it finds the hub, verifies the chain, looks the device
// up, and creates it on its first connection. Gate.Admit is the only way in;
// HTTP and TCP checks, explain and the tests call the same function.
//
// The store interfaces that the domain consumes are declared here, with their
// contracts; boltstore and redisstore implement them and storetest holds both
// to the contract.
package provision
