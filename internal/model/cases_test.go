package model_test

import (
	"testing"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/model"
)

// The cases that a machine found, as it shrunk them: first in the protocol, then in versions of it
// that were broken on purpose.
var cases = []struct {
	name string
	plan model.Plan
}{
	{
		// B's claim has its reply lost, and under its lease A's late success is saved. When B
		// looks again, the lease has ended and the token is fresh: there is nothing to claim or
		// to release.
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
		// B takes over A's lease, and the store is away before A has had the grace. When the
		// store is back, B's next claim takes B's own unused lease over: A has the grace still.
		"a living holder saves, though its lease was taken over twice",
		model.Plan{
			Processes: 2, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Fault{At: model.Refresh, Is: model.PausedAfter, For: 31 * time.Second},
				model.Ask{},
				model.Sleep{For: 10 * time.Millisecond},
				model.Ask{P: 1},
				model.Until{What: model.LeaseEnd, Plus: 0},
				model.Sleep{For: 250 * time.Millisecond},
				model.Down{For: 90 * time.Second, As: model.Silent},
				model.Sleep{For: 10 * time.Second},
				model.Ask{P: 1},
				model.Ask{P: 1},
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
		// The token is good while the claim's reply is lost. The next call must not wait for
		// its turn, nor for the end of what is its own lease.
		"a claim whose reply was lost is found again, while the token is good",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 10 * time.Millisecond},
				model.Fault{At: model.Claim, Is: model.LostReply, For: 1 * time.Second},
				model.Sleep{For: 31 * time.Second},
				model.Invalidate{},
				model.Sleep{For: 10 * time.Millisecond},
				model.Ask{},
			},
		},
	},
	{
		// A's reporter waits behind two holders that die. The caller that joined it reports
		// nothing, and the token in the store has not expired.
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
				model.Invalidate{P: 1},
				model.Sleep{For: 10 * time.Millisecond},
				model.Invalidate{},
				model.Ask{},
				model.Invalidate{P: 2},
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
				model.Invalidate{},
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
	{
		// The store is away for longer than the lease. When it is back, the others ask at once,
		// while the holder, who has the only refresh token that works, pauses between two
		// tries.
		"no grant is lost while every process lives: an outage longer than a lease",
		model.Plan{
			Processes: 3, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 100 * time.Millisecond},
				model.Down{For: 40 * time.Second},
			},
		},
	},
	{
		"no grant is lost while every process lives: many of them, and nothing is answered for 90 s",
		model.Plan{
			Processes: 4, Keys: 3, Provider: model.Revokes, Latency: 5 * time.Second, Lifetime: 600 * time.Second,
			Replay: credentials.NeverReplay,
			Actions: []model.Action{
				model.Crowd{},
				model.Sleep{For: 100 * time.Millisecond},
				model.Down{For: 90 * time.Second, As: model.Silent},
			},
		},
	},
	{
		// Reads are answered all the time, so that only a claim shows that writes are again.
		"no grant is lost while every process lives: read-only until just after the lease's end",
		model.Plan{
			Processes: 3, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Crowd{},
				model.Sleep{For: 3 * time.Millisecond},
				model.Down{For: 33 * time.Second, As: model.ReadOnly},
			},
		},
	},
	{
		// The replies to all claims are lost, and the leases end before the store answers
		// again.
		"a process knows its own unused claims, when an outage has outlasted them",
		model.Plan{
			Processes: 3, Keys: 3, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Replay: credentials.NeverReplay,
			Actions: []model.Action{
				model.Crowd{},
				model.Sleep{For: 3 * time.Millisecond},
				model.Down{For: 40 * time.Second},
			},
		},
	},
	{
		// Each answer to a read woke those who wait to write, and each of their failures had
		// the next answer wake them again.
		"no process spins where reads are answered and writes are not",
		model.Plan{
			Processes: 2, Keys: 2, Provider: model.Graceful, Grace: 10 * time.Second, Latency: 200 * time.Millisecond,
			Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Crowd{},
				model.Sleep{For: 100 * time.Millisecond},
				model.Down{For: 40 * time.Second, As: model.ReadOnly},
			},
		},
	},
	{
		// The lease of the dead holder seems to last an hour more.
		"a lease that began in the future is counted in whole",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Graceful, Grace: 60 * time.Second, Latency: 200 * time.Millisecond,
			Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 3 * time.Millisecond},
				model.SetClock{By: -time.Hour},
				model.Kill{},
			},
		},
	},
	{
		// The store goes on with what it was sent in any order: a look that finds no lease may
		// be answered before the claim takes effect.
		"a claim whose reply was lost is found again, that a frozen store was sent",
		model.Plan{
			Processes: 2, Keys: 3, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Replay: credentials.NeverReplay,
			Actions: []model.Action{
				model.Fault{At: model.Claim, Is: model.AwayBefore, For: 40 * time.Second, As: model.Frozen},
				model.Fault{K: 1, At: model.Claim, Is: model.AwayBefore, For: 40 * time.Second, As: model.Frozen},
				model.Crowd{},
				model.Sleep{For: 65 * time.Second},
			},
		},
	},
	{
		// A node that is behind says that the row has moved, as the process waits.
		"who took a lease over lets its holder save before it presents, whatever a node that is behind says",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Graceful, Grace: time.Minute, Latency: 200 * time.Millisecond,
			Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 3 * time.Millisecond},
				model.Kill{},
				model.Ask{},
				model.Until{What: model.LeaseEnd, Plus: time.Millisecond},
				model.Fault{At: model.Versions, Is: model.Behind, For: 33 * time.Second},
				model.Fault{At: model.Versions, Is: model.Behind, For: 33 * time.Second},
				model.Fault{At: model.Versions, Is: model.Behind, For: 33 * time.Second},
				model.Sleep{For: 2 * time.Second},
			},
		},
	},
	{
		// The look at the row that follows after half a minute is answered by a node that is
		// behind.
		"no older token is given over a newer one",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: time.Hour,
			Actions: []model.Action{
				model.Put{Token: true},
				model.Sleep{For: 10 * time.Second},
				model.Put{Token: true},
				model.Ask{},
				model.Sleep{For: 31 * time.Second},
				model.Fault{At: model.Get, Is: model.Behind, For: 33 * time.Second},
				model.Ask{},
				model.Sleep{For: time.Second},
				model.Ask{},
			},
		},
	},
	{
		"one forced exchange, whoever reports it, though the provider sends the same token again",
		model.Plan{
			Processes: 4, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Same: true,
			Actions: []model.Action{
				model.Crowd{},
				model.Sleep{For: 31 * time.Second},
				model.Invalidate{},
				model.Invalidate{P: 1},
				model.Sleep{For: 2 * time.Second},
				model.Invalidate{P: 2},
				model.Invalidate{P: 3},
				model.Sleep{For: 2 * time.Second},
			},
		},
	},
	{
		"no token is exchanged since it was turned down that an exchange has just brought",
		model.Plan{
			Processes: 2, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Put{Token: true},
				model.Crowd{},
				model.Invalidate{},
				model.Sleep{For: 2 * time.Second},
				model.Invalidate{},
				model.Invalidate{P: 1},
				model.Sleep{For: 2 * time.Second},
				model.Invalidate{P: 1},
			},
		},
	},
	{
		// By the clock that was set back, the exchange lies in the future.
		"no token is exchanged since it was turned down: the store's clock is set back",
		model.Plan{
			Processes: 2, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Crowd{},
				model.Sleep{For: 2 * time.Second},
				model.SetClock{By: -10 * time.Second},
				model.Invalidate{},
				model.Sleep{For: 31 * time.Second},
				model.Invalidate{P: 1},
				model.Sleep{For: 10 * time.Second},
				model.Invalidate{},
				model.Invalidate{P: 1},
			},
		},
	},
	{
		// The look that follows the report is answered by a node that is behind, where there is no
		// token yet.
		"no token is exchanged since it was turned down: the row was read from a node that is behind",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Sleep{For: 65 * time.Second},
				model.Ask{},
				model.Sleep{For: 10 * time.Second},
				model.Fault{At: model.Get, Is: model.Behind, For: 33 * time.Second},
				model.Invalidate{},
				model.Sleep{For: 250 * time.Millisecond},
			},
		},
	},
	{
		// The look that follows the report is answered by a node that is behind, where the token
		// before is still good.
		"no older token is given over a newer one: a report, and a node that is behind",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 31 * time.Second},
				model.Invalidate{},
				model.Sleep{For: 10 * time.Second},
				model.Fault{At: model.Get, Is: model.Behind, For: 14 * time.Second},
				model.Fault{At: model.Get, Is: model.Behind, For: 14 * time.Second},
				model.Invalidate{},
				model.Ask{},
				model.Sleep{For: 2 * time.Second},
			},
		},
	},
	{
		// The store's clock is set back by more than the least age: that keeps nobody.
		"no caller hangs: a token that was exchanged in the far future, and is turned down",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: 3600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 2 * time.Second},
				model.SetClock{By: -time.Hour},
				model.Invalidate{},
			},
		},
	},
	{
		"no exchange is made for nobody: a token that expires before it is saved",
		model.Plan{
			Processes: 2, Keys: 1, Provider: model.Revokes, Latency: 200 * time.Millisecond, Lifetime: time.Second,
			Saving: 1500 * time.Millisecond,
			Actions: []model.Action{
				model.Ask{Within: 2 * time.Second},
				model.Sleep{For: 65 * time.Second},
				model.Exit{Within: 22 * time.Second},
			},
		},
	},
	{
		"Close with a context that has ended saves what is under way",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Revokes, Latency: 5 * time.Second, Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Ask{},
				model.Sleep{For: 10 * time.Millisecond},
				model.Exit{},
			},
		},
	},
	{
		// A claim is found again when too little of its lease is left for the grace: its lease is
		// given up at once, so that nobody takes it for interrupted.
		"a lease lapses for a reason: a claim that is found again late, after an interruption",
		model.Plan{
			Processes: 4, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Fault{At: model.Refresh, Is: model.SlowReply, For: 70 * time.Second},
				model.Crowd{},
				model.Sleep{For: 600 * time.Second},
				model.Until{What: model.Expiry, Plus: 1 * time.Millisecond},
				model.Crowd{},
				model.Sleep{For: 3 * time.Millisecond},
				model.Down{For: 28 * time.Second, As: model.Refused},
				model.Sleep{For: 600 * time.Second},
			},
		},
	},
	{
		// A release that was sent late takes effect after the store has refused it: by then nothing
		// may have been presented under its lease.
		"unknown outcomes stay visible: a release in doubt, and the lease found again",
		model.Plan{
			Processes: 1, Keys: 1, Provider: model.Refuses, Latency: 200 * time.Millisecond, Lifetime: 600 * time.Second,
			Actions: []model.Action{
				model.Fault{At: model.Claim, Is: model.LostReply, For: 22 * time.Second},
				model.Fault{At: model.Release, Is: model.Late, For: 100 * time.Millisecond},
				model.Crowd{},
				model.Sleep{For: 100 * time.Millisecond},
				model.Down{For: 28 * time.Second, As: model.ReadOnly},
				model.Sleep{For: 250 * time.Millisecond},
				model.Crowd{},
				model.Sleep{For: 65 * time.Second},
			},
		},
	},
}

func TestCases(t *testing.T) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) { model.Replay(t, test.plan) })
	}
}
