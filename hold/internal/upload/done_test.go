package upload

import (
	"slices"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// Of what one account has completed the newest are remembered, another's are left alone.
func TestForgetDone(t *testing.T) {
	f := newFixture(t, nil)
	_, err := f.o.DB.Write().ExecContext(t.Context(), `with recursive n (i) as (select 1 union all select i + 1 from n where i < $2)
		insert into hold_upload (id, did, digest, storage_id, parts, bytes, commit_digest, done, created, touched)
		select 'a' || i, $1, '', '', 0, 0, '', 1, i, $3 + i from n
		union all select 'b' || i, 'did:web:bob.test', '', '', 0, 0, '', 1, i, $3 + i from n where i <= 3`,
		alice, maxDone+2, time.Now().Unix())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.forgetDone(t.Context(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	left, err := sqlx.Strings(t.Context(), f.o.DB.Read(), `select id from hold_upload where id in ('a1', 'a2', 'a3', 'b1') order by id`)
	if err != nil || !slices.Equal(left, []string{"a3", "b1"}) {
		t.Errorf("left are %v, %v, want all but a1 and a2", left, err)
	}
}
