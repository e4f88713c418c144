package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
)

// RunOnce is one pass of [Keeper.Run], for a cron job: it renews the credentials that are due now,
// waits for the exchanges to end and returns their figures, for each service of which something was
// due. A provider that is down is left for the next pass. A result that cannot be stored for longer
// than StoreTimeout is not waited for, and counted in Exchanging.
//
// A process that has just started takes over no lease that ended with nothing saved. If anything is
// still due, RunOnce waits until the store has answered for StoreTimeout and a second, at most as
// long as a lease, and makes one more pass.
//
// The error joins those of the store, service by service; that of ctx; [ErrClosed]. Exchanges that
// failed are counted and logged. Exchanges that are under way when ctx ends go on; [Manager.Close]
// waits for them.
func (k *Keeper) RunOnce(ctx context.Context) (map[string]KeeperStats, error) {
	r := &round{Keeper: k, began: k.now()}
	steady := k.health.steady()
	err := r.run(ctx)
	if err == nil && !steady {
		var more bool
		if more, err = r.awaitSteady(ctx); more {
			err = r.run(ctx)
		}
	}
	return r.stats(), err
}

// round is the work of one RunOnce: a pass over each service, or two.
type round struct {
	*Keeper
	began  moment // nothing that becomes due later is renewed, however short it lives
	passes []*pass
}

// run makes a pass over each service of which something is due, all at the same time.
func (r *round) run(ctx context.Context) error {
	due, err := r.due(ctx)
	if err != nil {
		return err
	}
	ended := make(chan error, len(due))
	for service, first := range due {
		p := &pass{worker: r.hire(service), once: true, first: first, began: r.began}
		r.passes = append(r.passes, p)
		go func() {
			defer r.leave(p.worker)
			err := p.run(ctx)
			p.under.Wait()
			if err != nil {
				err = fmt.Errorf("service %q: %w", service, err)
			}
			ended <- err
		}()
	}
	for range due {
		select {
		case passErr := <-ended:
			err = errors.Join(err, passErr)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return err
}

// due returns when the first credential of each service became due that was due when the round
// began.
func (r *round) due(ctx context.Context) (map[string]moment, error) {
	at := r.now()
	dueIn, err := r.dueServices(ctx)
	due := make(map[string]moment, len(dueIn))
	for service, in := range dueIn {
		if first := at.add(in); first <= r.began {
			due[service] = first
		}
	}
	return due, err
}

// awaitSteady waits until this process may take over leases, and reports whether there may be any
// to be taken over. The store is asked each second: without calls, nobody knows that the store
// answers. A store that does not do so steadily within a lease is left for the next cron job.
func (r *round) awaitSteady(ctx context.Context) (more bool, err error) {
	stats, gaveUp := r.stats(), r.now().add(r.opts.Lease)
	for {
		due, err := r.due(ctx)
		if err != nil {
			return false, cmp.Or(context.Cause(ctx), err)
		}
		maps.DeleteFunc(due, func(service string, _ moment) bool {
			return stats[service].UnknownService || stats[service].ProviderDown || stats[service].MassDeath
		})
		steady := r.health.steady()
		if len(due) == 0 || steady || r.now() > gaveUp {
			return steady && len(due) > 0, nil
		}
		if err := r.wait(ctx, minKeepPause, nil); err != nil {
			return false, err
		}
	}
}

// stats returns the figures of the round for each service.
func (r *round) stats() map[string]KeeperStats {
	stats := make(map[string]KeeperStats)
	for _, p := range r.passes {
		stats[p.name] = stats[p.name].plus(p.stats())
	}
	return stats
}
