package iot_test

import "testing"

func TestIoT(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t))
			for name, test := range map[string]func(*testing.T, *world){
				"conformance": testConformance,
				"unsupported": testUnsupported,
				"listing":     testListing,
				"orders":      testOrders,
				"costly":      testCostlyLists,
				"hubs":        testHubs,
				"devices":     testDevices,
				"declared":    testDeclared,
				"bad input":   testBadInput,
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(t, w)
				})
			}
		})
	}
}
