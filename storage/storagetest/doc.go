// Package storagetest checks that a [storage.Store] keeps its contract. Anyone's driver can run it:
//
//	func TestDriver(t *testing.T) {
//		storagetest.Run(t, storagetest.Config{
//			Open: func() (storage.Store, error) { return mydriver.Open(t.TempDir()) },
//		})
//	}
//
// [Check] does the same without a test and returns every misbehaviour in one error. What a driver can't be asked by
// its interface alone (a crash, a full disk, what lies about in the end) is asked through fields of [Config]; a nil
// field leaves those cases out, and Run says so as a skip.
//
// Each case gets a store of its own. When it ends, everything is deleted through the interface and nothing may be left.
package storagetest
