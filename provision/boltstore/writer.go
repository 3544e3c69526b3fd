package boltstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hubgate/hubgate/provision"
)

const (
	// maxBatch bounds how many changes one transaction makes, and so how long
	// it keeps the later ones waiting.
	maxBatch = 512
	// replacedInterval is how often the file is looked for at its path.
	replacedInterval = 500 * time.Millisecond
)

// op is one change on its way to the writer. apply decides and then writes: an
// error that it returns is its decision, and nothing was written.
type op struct {
	ctx   context.Context
	apply func(*txn) error
	done  chan error
}

// write hands a change to the writer and waits until it is durable. When the
// context ends first the outcome is unknown, and what apply sets must not be
// looked at.
func (s *Store) write(ctx context.Context, apply func(*txn) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	o := &op{ctx: ctx, apply: apply, done: make(chan error, 1)}
	select {
	case s.queue <- o:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, ctx.Err())
	case <-s.stopped:
		return errStopped
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, ctx.Err())
	case <-s.stopped:
		select {
		case err := <-o.done: // it was in the last batch
			return err
		default:
			return errStopped
		}
	}
}

var errStopped = fmt.Errorf("%w: the store is closed", provision.ErrUnavailable)

// Run makes the changes until the context ends or Close is called; then it
// returns nil. It runs once.
func (s *Store) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		select {
		case <-s.closing:
			return nil
		default:
			return errors.New("the store runs already, or did")
		}
	}
	defer close(s.stopped)
	tick := time.NewTicker(replacedInterval)
	defer tick.Stop()
	batch := make([]*op, 0, maxBatch)
	var crowd crowd
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return nil
		case <-tick.C:
			s.checkReplaced()
		case first := <-s.queue:
			batch = s.fill(append(batch[:0], first), crowd)
			began := time.Now()
			crowd = crowd.after(s.commit(batch), len(batch), time.Since(began))
			clear(batch)
		}
	}
}

// crowd is who may be about to come: those whom the last commit answered, and
// those who came while it was made. A transaction for a part of them alone would
// make the others wait for its end, and so on with every one after it.
type crowd struct {
	size int
	// patience is how long to wait for them: a small part of what a commit
	// takes, so that it costs little if they do not come.
	patience time.Duration
}

// after is the crowd once a commit was made that took so long and answered so
// many, with others waiting.
func (crowd) after(waiting, answered int, took time.Duration) crowd {
	return crowd{size: min(waiting+answered, maxBatch), patience: took / 8}
}

// fill adds what waits to the batch, and who is about to come. A lone caller
// waits for nobody: it is its own crowd.
func (s *Store) fill(batch []*op, crowd crowd) []*op {
	for len(batch) < maxBatch {
		select {
		case o := <-s.queue:
			batch = append(batch, o)
			continue
		default:
		}
		break
	}
	if len(batch) >= crowd.size {
		return batch
	}
	late := time.NewTimer(crowd.patience)
	defer late.Stop()
	for len(batch) < crowd.size {
		select {
		case o := <-s.queue:
			batch = append(batch, o)
		case <-late.C:
			return batch
		}
	}
	return batch
}

// commit applies the batch in one transaction and answers every caller. A
// change that was decided against has written nothing, so its neighbours land;
// only a failure of the file itself fails them all. It returns how many came
// meanwhile.
func (s *Store) commit(batch []*op) (waiting int) {
	decisions := make([]error, len(batch))
	failure := s.transact(func(t *txn) {
		for i, o := range batch {
			if err := o.ctx.Err(); err != nil {
				decisions[i] = fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
				continue
			}
			decisions[i] = o.apply(t)
		}
	})
	waiting = len(s.queue)
	for i, o := range batch {
		if failure != nil {
			decisions[i] = failure
		}
		o.done <- decisions[i]
	}
	return waiting
}

// transact makes the changes durable, and known to those who watch.
func (s *Store) transact(apply func(*txn)) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	t := newTxn(tx, s)
	apply(t)
	t.finish()
	if t.failure != nil || !t.dirty {
		if err := errors.Join(t.failure, tx.Rollback()); err != nil {
			return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
		}
		return nil
	}
	s.feed.committing()
	s.around(func() { err = tx.Commit() })
	// A commit that failed in its last step may have happened: who watches is
	// better told once too often.
	s.feed.committed(t.changes)
	if err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	return nil
}
