package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/latchkey-go/latchkey/credentials"
	"github.com/latchkey-go/latchkey/internal/history"
	"github.com/latchkey-go/latchkey/internal/storm/wire"
	"github.com/latchkey-go/latchkey/internal/testkit"
)

// recorder is the store and the refresher of a manager in a storm with faults. The recorder records
// the manager's actions, and stops at the step that the fault waits for.
type recorder struct {
	w *worker

	mu       sync.Mutex
	asked    map[string]int64 // guarded by mu: when each claim was first asked for, by its id
	accounts map[string]int   // guarded by mu: the account of each claim, which fences do not name
}

// roundManager returns a manager for a round, whose actions are recorded if the storm has faults.
func (w *worker) roundManager() (*manager, error) {
	if !w.Faulty {
		return w.newManager(w.rows, w.refresher(w.TokenURL))
	}
	r := &recorder{w: w, asked: make(map[string]int64), accounts: make(map[string]int)}
	return w.newManager(testkit.StoreFunc(r.do), credentials.RefresherFunc(r.refresh))
}

// do makes a call of the store.
func (r *recorder) do(ctx context.Context, call *testkit.Call) error {
	switch call.Method {
	case testkit.Claim:
		r.w.step(ctx, wire.BeforeClaim, r.w.numbers[call.Key.Account])
		r.asking(call.Claim.ID)
	case testkit.ClaimAll:
		r.w.step(ctx, wire.BeforeClaim, r.w.numbers[call.Keys[0].Account])
		r.asking(call.Claim.ID)
	case testkit.ClaimDue:
		r.asking(call.Batch.ID)
	case testkit.Save:
		r.w.step(ctx, wire.BeforeSave, r.account(call.Fence))
		return r.write(ctx, call, wire.Record{
			Action: wire.Save, Token: wire.Fingerprint(call.Renewal.AccessToken),
			Refresh: wire.Fingerprint(call.Renewal.RefreshToken), Lifetime: call.Renewal.Lifetime,
		})
	case testkit.Fail:
		return r.write(ctx, call, wire.Record{Action: wire.Fail})
	case testkit.Release:
		return r.write(ctx, call, wire.Record{Action: wire.Release})
	}
	start := history.Now()
	err := call.Do(ctx, r.w.rows)
	if err == nil {
		r.found(ctx, start, call.Credential)
	}
	for _, c := range call.Credentials {
		r.found(ctx, start, c)
	}
	for _, answer := range call.Found {
		if err == nil && answer.Err == nil {
			r.found(ctx, start, answer.Credential)
		}
	}
	return err
}

// asking notes that a claim is about to be asked for.
func (r *recorder) asking(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.asked[id]; !again {
		r.asked[id] = history.Now()
	}
}

// found records the claim in a row if it is this process's and not recorded yet. start is when the
// row was asked for. If the reply to the claim was lost, the row was asked for later than the
// claim; the lease counts from the claim.
func (r *recorder) found(ctx context.Context, start int64, c credentials.Credential) {
	account, name := r.w.numbers[c.Key.Account], claimName(c.Fence())
	r.mu.Lock()
	asked, own := r.asked[c.Lease.ID]
	_, known := r.accounts[name]
	if own && !known {
		r.accounts[name] = account
	}
	r.mu.Unlock()
	if !own || known {
		return
	}
	r.w.link.record(wire.Record{
		Action: wire.Claim, Account: account, Start: asked, End: history.Now(), Claim: name,
		Version: c.Lease.Version, Refresh: wire.Fingerprint(c.RefreshToken),
		EndsIn: c.Lease.EndsIn + time.Duration(start-asked),
	})
	r.w.step(ctx, wire.AfterClaim, account)
}

// claimName names a claim in the journal, where no two may have one name. The claims of a batch
// share an id.
func claimName(fence credentials.Fence) string {
	return fence.Claim + "." + strconv.FormatUint(fence.Row, 10)
}

// write makes and records a write under a claim.
func (r *recorder) write(ctx context.Context, call *testkit.Call, record wire.Record) error {
	record.Account, record.Claim = r.account(call.Fence), claimName(call.Fence)
	record.Version, record.Start = call.Fence.Version, history.Now()
	err := call.Do(ctx, r.w.rows)
	record.End = history.Now()
	switch {
	case errors.Is(err, credentials.ErrSuperseded):
		record.Class = wire.Superseded
	case err != nil:
		record.Class = wire.Unwritten
	}
	r.w.link.record(record)
	return err
}

func (r *recorder) account(fence credentials.Fence) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	account, known := r.accounts[claimName(fence)]
	if !known {
		panic(fmt.Sprintf("a write under the claim %s, which this process never made", claimName(fence)))
	}
	return account
}

// refresh makes an exchange, under a URL that names the claim to the token endpoint.
func (r *recorder) refresh(
	ctx context.Context, in credentials.RefreshInput,
) (credentials.Grant, error) {
	account, claim := r.w.numbers[in.Key.Account], claimName(in.Fence)
	record := wire.Record{Action: wire.Answer, Account: account, Claim: claim, Start: history.Now()}
	ctx, goOn := r.w.stepInExchange(ctx, account)
	query := url.Values{
		"worker": {strconv.Itoa(r.w.Worker)}, "account": {in.Key.Account}, "claim": {claim},
	}
	grant, err := r.w.refresher(r.w.TokenURL+"?"+query.Encode()).Refresh(ctx, in)
	goOn() // A holder that is killed in its exchange does not see the answer.
	record.End = history.Now()
	if err == nil {
		record.Token = wire.Fingerprint(grant.AccessToken)
		record.Refresh = wire.Fingerprint(grant.RefreshToken)
	} else {
		record.Class = string(credentials.ClassUnknown)
		if failed := (*credentials.RefreshError)(nil); errors.As(err, &failed) {
			record.Class = string(failed.Class)
		}
	}
	r.w.link.record(record)
	return grant, err
}

// step asks the parent a question at the step that the fault waits for, and waits for the reply.
func (w *worker) step(ctx context.Context, at wire.Step, account int) {
	if w.Step != at {
		return
	}
	select {
	case <-w.link.ask(account):
	case <-time.After(10 * time.Second): // The parent is busy, or gone.
	case <-ctx.Done():
	}
}

// stepInExchange does the step when the exchange under the returned context has sent its request,
// and beside the exchange. goOn waits until the step is over.
func (w *worker) stepInExchange(ctx context.Context, account int) (_ context.Context, goOn func()) {
	if w.Step != wire.InExchange {
		return ctx, func() {}
	}
	sent := make(chan struct{})
	once := sync.OnceFunc(func() { close(sent) })
	exchange := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { once() },
	})
	var asked sync.WaitGroup
	asked.Go(func() {
		select {
		case <-sent:
			w.step(ctx, wire.InExchange, account)
		case <-ctx.Done():
		}
	})
	return exchange, asked.Wait
}
