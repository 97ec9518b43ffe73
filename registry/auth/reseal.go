package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

const resealPage = 200

// reseal seals anew what was sealed in the form of before, or under another key than the first, so that neither is needed any more.
// It is for the start, before anybody uses a session. What doesn't open stays: it may be another key's.
func (s *store) reseal(ctx context.Context, log *slog.Logger) error {
	if !s.sealer.old && s.sealer.keys.Len() == 1 {
		return nil
	}
	count, after := 0, ""
	for {
		n, last, err := s.resealPage(ctx, after)
		if err != nil {
			return fmt.Errorf("sealing sessions anew: %w", err)
		}
		count += n
		if last == "" {
			break
		}
		after = last
	}
	if count > 0 {
		log.Info("sessions sealed anew", "count", count)
	}
	if !s.sealer.old {
		return nil
	}
	if err := s.sealer.setBound(); err != nil {
		log.Warn("sessions of the form of before are looked for again at the next start, and refused until then: "+
			"let the server write beside its session key", "err", err)
	}
	return nil
}

// resealPage does the rows after an id, and returns the last one's id, empty at the end.
func (s *store) resealPage(ctx context.Context, after string) (count int, last string, err error) {
	type row struct {
		place
		sealed []byte
	}
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		count, last = 0, ""
		rows, err := tx.QueryContext(ctx, `select id, did, pds, sealed from auth_session
			where id > $1 order by id limit $2`, after, resealPage)
		if err != nil {
			return err
		}
		var page []row
		for rows.Next() {
			var r row
			if err := rows.Scan(&r.id, &r.did, &r.pds, &r.sealed); err != nil {
				rows.Close()
				return err
			}
			page = append(page, r)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		for _, r := range page {
			last = r.id
			t, key, err := s.sealer.openWith(r.bytes(), r.sealed)
			if err == nil && key == 0 {
				continue
			}
			if err != nil {
				if t, err = s.sealer.openOld(r.place, r.sealed); err != nil {
					continue
				}
			}
			sealed, err := s.sealer.seal(r.place, t)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "update auth_session set sealed = $1 where id = $2", sealed, r.id); err != nil {
				return err
			}
			count++
		}
		if len(page) < resealPage {
			last = ""
		}
		return nil
	})
	return count, last, err
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
