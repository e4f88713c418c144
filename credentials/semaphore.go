package credentials

import "context"

// semaphore bounds how many do something at the same time.
type semaphore chan struct{}

// acquire waits for a place, unless ctx ends or the manager closes before.
func (s semaphore) acquire(ctx context.Context, closing <-chan struct{}) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-closing:
		return ErrClosed
	}
}

func (s semaphore) release() { <-s }
