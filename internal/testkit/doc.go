// Package testkit is the harness under the four levels of tests: the contract of stores, the model,
// the storm and the tests with a server.
//
// [Store] is a process's way to a store, with faults. A hook runs before or after a method, and may
// wait, look at the call or take its answer away:
//
//	store := testkit.NewStore(rows)
//	store.After(testkit.Claim, testkit.Refuse)                 // the replies to claims are lost
//	store.Before(testkit.Save, testkit.Once(testkit.Refuse))   // the first save is refused
//	store.Before(testkit.Release, gate.Wait)                   // releases wait until gate.Open
//	store.After(testkit.Fail, func(ctx context.Context, call *testkit.Call) error {
//		t.Log(call.Fence, call.Err)                            // failures are watched
//		return nil
//	})
//	store.Down(true)                                           // everything is refused
//
// [StoreFunc] is for whoever has more to say: a store of one function, which gets every call as a
// [Call] and makes it with [Call.Do], or does not, or does so later.
//
//	store := testkit.StoreFunc(func(ctx context.Context, call *testkit.Call) error {
//		start := time.Now()
//		err := call.Do(ctx, rows)
//		if call.Method == testkit.Claim && call.Won() {
//			record(call.Credential, start)
//		}
//		return err
//	})
//
// [Families] are the rules of a provider's refresh tokens: rotation, reuse detection, the grace
// window. Package provider is a token endpoint over them.
//
// Nothing here needs a testing.T, and time is that of package time: it all works in the bubbles of
// testing/synctest, in processes and in the command. Package testing is not imported, since the
// command links this package.
package testkit
