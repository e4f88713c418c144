package worker

import (
	"context"
	"encoding/json"
	"io"
	"sync"

	"github.com/latchkey-go/latchkey/internal/storm/wire"
)

// link is a worker's side of the conversation.
type link struct {
	mu        sync.Mutex
	out       *json.Encoder         // guarded by mu; each line is one write, so that a kill tears none
	questions map[int]chan struct{} // guarded by mu; closed by the reply
	asked     int                   // guarded by mu
	orders    chan wire.Order       // All orders but replies.
}

func newLink(stdout io.Writer) *link {
	return &link{
		out: json.NewEncoder(stdout), questions: make(map[int]chan struct{}),
		orders: make(chan wire.Order),
	}
}

// receive passes the orders on until reading fails or ctx ends.
func (l *link) receive(ctx context.Context, decoder *json.Decoder) error {
	for {
		var o wire.Order
		if err := decoder.Decode(&o); err != nil {
			return err
		}
		if o.Reply != 0 {
			l.reply(o.Reply)
			continue
		}
		select {
		case l.orders <- o:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// order returns the parent's next order.
func (l *link) order(ctx context.Context) (wire.Order, error) {
	select {
	case o := <-l.orders:
		return o, nil
	case <-ctx.Done():
		return wire.Order{}, context.Cause(ctx)
	}
}

func (l *link) send(m wire.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Encode(m)
}

// record sends a record. A record that nobody reads is lost with its worker, which is about to end.
func (l *link) record(r wire.Record) { _ = l.send(wire.Message{Record: &r}) }

// ask sends a question about the account. The reply closes the channel.
func (l *link) ask(account int) <-chan struct{} {
	replied := make(chan struct{})
	l.mu.Lock()
	l.asked++
	q := wire.Question{Number: l.asked, Account: account}
	l.questions[q.Number] = replied
	l.mu.Unlock()
	_ = l.send(wire.Message{Question: &q})
	return replied
}

func (l *link) reply(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if replied := l.questions[number]; replied != nil {
		close(replied)
		delete(l.questions, number)
	}
}
