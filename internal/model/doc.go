// Package model tests the protocol of package credentials beyond examples: it draws what happens,
// and checks the design's invariants after each step.
//
// # Two machines
//
// [Run] drives managers. Each stands for a process and has its own way to one store and one
// provider; the time is fake (testing/synctest). A [Plan] says what is done: callers ask and report
// tokens, accounts are put, deleted and revoked, time passes to just before or after an expiry, the
// end of a lease or of a back-off; processes are paused beyond their lease, killed and closed, and
// any call of the store or the provider is refused, delayed, has its reply lost, takes effect when
// its caller has given it up, or has its process stopped or killed before or after it took effect.
// A process that is stopped is so at its next call and at each reply: between two of them fake time
// does not pass, so what goes wrong between two instructions is not found here.
//
// The store goes away for less and for more than a lease, from all processes or from one, in five
// ways ([Down]); reads are answered by nodes that are behind, one of them, or all of a process's
// for a while ([Lag]); clocks are set, and those of nodes are apart.
//
// [RunStore] drives a store itself, with the calls of several holders, late, repeated, forgotten
// and at the same time. It needs no fake time, and so tests a real server as well as the store in
// memory.
//
// # What is checked
//
// Every call of a store is held against one model of a row, written from the contract
// ([credentials.Store]): what must have been answered, and what must stand in the row now. On top
// of that, managers are held to what they promise: what is presented when and under which claim,
// and that nothing is presented again but for a reason; that what was granted is saved while its
// process lives; what callers get, when, and with which errors. In the end all trouble ceases: then
// every process has the token that is stored, and the refresh token that works is in the store,
// unless its holder died with it, a put replaced it, or the request reached the provider after its
// lease, which no client can prevent.
//
// An outage of the whole store, however long, excuses nothing: no grant is lost in it while every
// process lives. Excuses are what befalls one process, within the grace before another one relies
// on the end of its lease (excused, forgotten); a clock that was set forward, or is ahead, ends
// leases early.
//
// # A failure
//
// It is shrunk, and printed as the Go of a Plan with the history of its run. A plan does not hold
// the protocol's jitters and the order of goroutines, so a plan that failed once is tried several
// times while it is shrunk. It is kept as a case of this package's tests. For longer runs: go test
// ./internal/model -rapid.checks=2000 -rapid.steps=50.
package model
