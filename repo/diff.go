package repo

import (
	"context"
	"errors"
	"iter"
	"strings"
)

// Difference is a record that two repositories do not have alike. A or B is nil where that repository has none at the path.
type Difference struct {
	Path string
	A, B *Record
}

// Diff returns what differs between the records of two CARs, in the order of the paths. Both are walked side by side, so that memory does
// not grow with them. The errors are those of [CAR.Records].
func Diff(ctx context.Context, a, b *CAR) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		nextA, stopA := iter.Pull2(a.Records(ctx))
		defer stopA()
		nextB, stopB := iter.Pull2(b.Records(ctx))
		defer stopB()
		recA, errA, moreA := nextA()
		recB, errB, moreB := nextB()
		for moreA || moreB {
			if err := errors.Join(errA, errB); err != nil {
				yield(Difference{}, err)
				return
			}
			order := strings.Compare(recA.Path(), recB.Path())
			var d Difference
			if moreA && (!moreB || order <= 0) {
				r := recA
				d.Path, d.A = r.Path(), &r
			}
			if moreB && (!moreA || order >= 0) {
				r := recB
				d.Path, d.B = r.Path(), &r
			}
			if differ := d.A == nil || d.B == nil || d.A.CID != d.B.CID; differ && !yield(d, nil) {
				return
			}
			if d.A != nil {
				recA, errA, moreA = nextA()
			}
			if d.B != nil {
				recB, errB, moreB = nextB()
			}
		}
	}
}
