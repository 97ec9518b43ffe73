package sqlstore

import "time"

// SetLimits sets how long an Update on PostgreSQL may take, and how long its outcome is asked for; it returns a function that
// sets them back.
func (s *Store) SetLimits(update, settle time.Duration) (back func()) {
	u, e := s.update, s.settling
	s.update, s.settling = update, settle
	return func() { s.update, s.settling = u, e }
}
