package model_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/model"
)

// The cases that a machine found, as it shrunk them: first in the protocol, then in versions of it that were broken on
// purpose.
func TestCases(t *testing.T) {
	for _, test := range []struct {
		name string
		plan model.Plan
	}{
		{
			// B's claim has its reply lost, and under its lease A's late success is saved. When B looks again, the lease
			// has ended and the token is fresh: there is nothing to claim or to release.
			"one exchange per expiry: a claim whose reply was lost, overtaken by an earlier holder's success",
			model.Plan{
				Processes: 2, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 10 * time.Millisecond},
					model.Fault{At: model.Claim, Is: model.LostReply, For: 1 * time.Second},
					model.Fault{At: model.Save, Is: model.PausedBefore, For: 31 * time.Second},
					model.Sleep{For: 250 * time.Millisecond},
					model.Ask{P: 1, Within: 1 * time.Millisecond},
					model.Until{What: model.Due, Plus: 1 * time.Second},
				},
			},
		},
		{
			"one exchange per expiry: the same, while the lease lasts",
			model.Plan{
				Processes: 2, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 10 * time.Millisecond},
					model.Fault{At: model.Claim, Is: model.LostReply, For: 1 * time.Second},
					model.Fault{At: model.Save, Is: model.PausedBefore, For: 31 * time.Second},
					model.Sleep{For: 250 * time.Millisecond},
					model.Ask{P: 1, Within: 1 * time.Millisecond},
					model.Sleep{For: 33 * time.Second},
					model.Ask{P: 1},
					model.Sleep{For: 2 * time.Second},
				},
			},
		},
		{
			// The token is good while the claim's reply is lost. The next flight must not wait for its turn, nor for the
			// end of what is its own lease.
			"a claim whose reply was lost is found again, while the token is good",
			model.Plan{
				Processes: 1, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 10 * time.Millisecond},
					model.Fault{At: model.Claim, Is: model.LostReply, For: 1 * time.Second},
					model.Sleep{For: 31 * time.Second},
					model.Reject{},
					model.Sleep{For: 10 * time.Millisecond},
					model.Ask{},
				},
			},
		},
		{
			// A's reporter waits behind two holders that die. The caller that joined it reports nothing, and the token in
			// the store has not expired.
			"invariant 11: a caller who joins one that reports the token, behind holders that die",
			model.Plan{
				Processes: 3, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Ask{P: 1},
					model.Ask{P: 2},
					model.Sleep{For: 600 * time.Second},
					model.Fault{At: model.Refresh, Is: model.KilledBefore},
					model.Fault{At: model.Refresh, Is: model.KilledBefore},
					model.Reject{P: 1},
					model.Sleep{For: 10 * time.Millisecond},
					model.Reject{},
					model.Ask{},
					model.Reject{P: 2},
					model.Sleep{For: 65 * time.Second},
				},
			},
		},
		{
			"invariant 11: a caller who joins one that reports the token, and the provider is busy",
			model.Plan{
				Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 600 * time.Second},
					model.Fault{At: model.Refresh, Is: model.Busy, For: 4 * time.Second},
					model.Reject{},
					model.Ask{},
					model.Sleep{For: 1 * time.Second},
				},
			},
		},
		{
			"an exchange has the time it takes, however long its caller waited for holders that died",
			model.Plan{
				Processes: 3, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Fault{At: model.Refresh, Is: model.KilledBefore},
					model.Fault{At: model.Refresh, Is: model.KilledBefore},
					model.Ask{P: 1},
					model.Sleep{For: 5 * time.Second},
					model.Ask{},
					model.Ask{P: 2},
					model.Sleep{For: 65 * time.Second},
				},
			},
		},
		{
			"invariant 3: a put while an exchange is under way, whose result is dropped",
			model.Plan{
				Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 10 * time.Millisecond},
					model.Fault{At: model.Claim, Is: model.Refused, For: 1 * time.Second},
					model.Put{},
					model.Sleep{For: 250 * time.Millisecond},
				},
			},
		},
		{
			"invariant 4: a success that comes after its failure was recorded",
			model.Plan{
				Processes: 1, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Fault{At: model.Refresh, Is: model.Stubborn, For: 22 * time.Second},
					model.Sleep{For: 10 * time.Millisecond},
				},
			},
		},
		{
			"invariant 4: a process that is paused with the answer in its hands",
			model.Plan{
				Processes: 1, Keys: 2, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 10 * time.Millisecond},
					model.Fault{K: 1, At: model.Get, Is: model.PausedBefore, For: 70 * time.Second},
					model.Ask{K: 1},
				},
			},
		},
		{
			"invariant 5: A's late success is saved while B, refused as A's token was used, is about to fail",
			model.Plan{
				Processes: 3, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Fault{At: model.Refresh, Is: model.PausedAfter, For: 31 * time.Second},
					model.Fault{At: model.Refresh, Is: model.Stubborn, For: 1 * time.Second},
					model.Ask{},
					model.Ask{P: 1},
					model.Sleep{For: 65 * time.Second},
				},
			},
		},
		{
			"the reply to a claim comes too late, and the next caller finds the claim",
			model.Plan{
				Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 180 * time.Second,
				Actions: []model.Action{
					model.Fault{At: model.Claim, Is: model.SlowReply, For: 31 * time.Second},
					model.Ask{},
					model.Sleep{For: 17 * time.Second},
					model.Ask{},
					model.Sleep{For: 2 * time.Second},
				},
			},
		},
		{
			"a service that never replays, whose holder is killed before it presents",
			model.Plan{
				Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
				Replay: credentials.NeverReplay,
				Actions: []model.Action{
					model.Ask{},
					model.Fault{At: model.Refresh, Is: model.KilledBefore, For: 1 * time.Second},
					model.Sleep{For: 10 * time.Millisecond},
				},
			},
		},
		{
			"two processes, one exchange, and the other learns of it soon",
			model.Plan{Processes: 2, Keys: 1, Provider: model.Revokes, Latency: 5 * time.Second, Lifetime: 600 * time.Second},
		},
		{
			"at the last look the token is just due, and its exchange is under way",
			model.Plan{
				Processes: 2, Keys: 1, Provider: model.Revokes, Latency: 5 * time.Second, Lifetime: 600 * time.Second,
				Actions: []model.Action{
					model.Ask{},
					model.Sleep{For: 84 * time.Second},
				},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) { model.Replay(t, test.plan) })
	}
}
