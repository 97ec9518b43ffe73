package hold

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/repo"
)

// Where the repository lies in a database, other processes may write it (datadir.OpenRepo): what this one keeps of it in memory and in its
// own tables has to follow. Captain and crew follow within a second, and the configuration wins again as at a start. The index of layers
// decides about writes, so that each of them makes sure, under the repository's lock, that nobody came between.

const followAgain = 5 * time.Second

// errForeign: another process has written to the repository since the index was made.
var errForeign = fmt.Errorf("another process has written to the hold's repository: %w", repo.ErrBusy)

// followOthers does so until the hold is closed.
func (s *Server) followOthers(context.Context) error {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.onClose(func() error {
		stop()
		<-done
		return nil
	})
	seen := s.bootedAs
	go func() {
		defer close(done)
		for {
			changed := s.repo.Changed()
			var again <-chan time.Time
			if now := s.repo.Foreign(); now != seen {
				if err := s.reread(ctx); err == nil {
					seen = now
				} else if ctx.Err() == nil {
					s.log.Error("another process has written to the repository, and it can't be read; it is tried again", "error", err, "in", followAgain.String())
					again = time.After(followAgain)
				}
			}
			select {
			case <-changed:
			case <-again:
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}

func (s *Server) reread(ctx context.Context) error {
	s.log.Info("another process has written to the repository; captain, crew and the index of layers are read again")
	if err := s.alignRecords(ctx); err != nil {
		return err
	}
	return s.ensureIndex(ctx)
}

// onIndex calls f while the index of layers is that of the repository: f gives the guard to each commit that relies on it, and is
// called again, a few times, when another process came between.
func (s *Server) onIndex(ctx context.Context, f func(repo.Guard) error) error {
	for try := 0; ; try++ {
		as, err := s.indexed(ctx)
		if err == nil {
			err = f(func(now repo.Snapshot) error {
				if now.Foreign() != as {
					return errForeign
				}
				return nil
			})
		}
		if !errors.Is(err, errForeign) || try == 5 {
			return err
		}
	}
}
