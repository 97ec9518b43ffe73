package repo

import "testing"

// Shrink returns a shorter sequence for which fails still holds: it leaves out ever smaller runs of items as long as
// that brings anything, so that no single item can be left out any more. fails must be repeatable.
func Shrink[T any](seq []T, fails func([]T) bool) []T {
	for size := len(seq) / 2; size > 0; {
		shorter := false
		for at := 0; at < len(seq); {
			try := append(append([]T(nil), seq[:at]...), seq[min(at+size, len(seq)):]...)
			if fails(try) {
				seq, shorter = try, true
			} else {
				at += size
			}
		}
		if size > 1 || !shorter {
			size /= 2
		}
	}
	return seq
}

func TestShrink(t *testing.T) {
	t.Parallel()
	var seq []int
	for i := range 1000 {
		seq = append(seq, i)
	}
	tries := 0
	got := Shrink(seq, func(s []int) bool { // it takes 17, and 400 after it
		tries++
		seen := false
		for _, v := range s {
			if v == 17 {
				seen = true
			}
			if v == 400 && seen {
				return true
			}
		}
		return false
	})
	if len(got) != 2 || got[0] != 17 || got[1] != 400 || tries > 200 {
		t.Errorf("%v after %d tries", got, tries)
	}
}
