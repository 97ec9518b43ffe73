package sqlstore

import (
	"context"
	"fmt"
)

// Records returns how many records there are, for those who want to know how far an export is. It reads an index from end to end.
func (s *Store) Records(ctx context.Context) (n int64, err error) {
	err = s.db.Read().QueryRowContext(ctx, "select count(*) from repo_record").Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count records: %w", err)
	}
	return n, nil
}
