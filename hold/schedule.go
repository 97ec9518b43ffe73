package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/internal/ledger"
)

// BackupSchedule has the running hold backed up at regular times. Options.Job of hold/backup makes Run.
type BackupSchedule struct {
	// Every is the time between two backups. They keep it whatever time one takes; one that is late leaves out those it
	// overran. After a restart the time goes on from the last backup that succeeded.
	Every time.Duration
	// Run makes one backup. It is never called twice at a time. Its error is logged and counted, and it is called again after
	// ten minutes, or Every if that is shorter.
	Run func(context.Context, *datadir.Contents) error
}

const (
	backupRetry = 10 * time.Minute
	// clockStep bounds how long a change of the clock goes unnoticed.
	clockStep = time.Second

	metaBackup = "backup_last" // when the newest successful backup was due, Unix microseconds
)

// backups makes those of the schedule.
type backups struct {
	schedule *BackupSchedule // nil: none
	contents *datadir.Contents
	ledger   *ledger.Ledger
	metrics  *metrics
	clock    func() time.Time
	log      *slog.Logger
}

// keep makes the backups of the schedule until ctx ends.
func (s *backups) keep(ctx context.Context) {
	b := s.schedule
	if b == nil {
		return
	}
	last, err := s.last(ctx)
	if err != nil {
		s.log.Warn("when the last backup was made is not known: one is made now", "error", err)
	}
	due := s.clock()
	if !last.IsZero() {
		s.metrics.backupLast.Set(float64(last.UnixMicro()) / 1e6)
		if next := last.Add(b.Every); next.Before(due.Add(b.Every)) { // else the clock went back
			due = next
		}
	}
	for {
		s.metrics.backupNext.Set(float64(due.UnixMicro()) / 1e6)
		if !waitUntil(ctx, s.clock, due) {
			return
		}
		err := s.now(ctx, due)
		if ctx.Err() != nil {
			return
		}
		now := s.clock()
		if err != nil {
			again := min(b.Every, backupRetry)
			s.log.Error("the backup failed; the one before it is still good", "error", err, "again_in", again)
			due = now.Add(again)
			continue
		}
		due = nextDue(due, now, b.Every)
	}
}

// nextDue is the first time after now that lies a whole number of periods after due.
func nextDue(due, now time.Time, every time.Duration) time.Time {
	return due.Add(max(now.Sub(due)/every+1, 1) * every)
}

func (s *backups) now(ctx context.Context, due time.Time) error {
	began := s.clock()
	if err := s.schedule.Run(ctx, s.contents); err != nil {
		s.metrics.backups.WithLabelValues("failed").Inc()
		return err
	}
	s.metrics.backups.WithLabelValues("ok").Inc()
	s.metrics.backupLast.Set(float64(began.UnixMicro()) / 1e6)
	if due.After(began) {
		due = began
	}
	if err := s.ledger.SetMeta(ctx, metaBackup, strconv.FormatInt(due.UnixMicro(), 10)); err != nil { // the next start makes one too early
		s.log.Warn("the time of the backup could not be noted", "error", err)
	}
	return nil
}

func (s *backups) last(ctx context.Context) (time.Time, error) {
	text, err := s.ledger.Meta(ctx, metaBackup)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", metaBackup, err)
	}
	return time.UnixMicro(n), nil
}

// waitUntil waits for a time of the given clock, which may be set; false: ctx ended.
func waitUntil(ctx context.Context, clock func() time.Time, at time.Time) bool {
	for {
		left := at.Sub(clock())
		if ctx.Err() != nil {
			return false
		}
		if left <= 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(left, clockStep)):
		}
	}
}

func (b *BackupSchedule) check() error {
	if b != nil && (b.Every <= 0 || b.Run == nil) {
		return errors.New("hold: Backup: Every and Run are required")
	}
	return nil
}
