package upload

import (
	"bytes"
	"sync"
	"testing"
)

// However often a part comes at once, the spool counts what lies in it: else one client could fill it for everybody by
// sending the same part again and again.
func TestSpoolCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	sp, err := openSpool(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	part := bytes.Repeat([]byte("x"), 1000)
	for n := range 20 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, _, err := sp.put("upload", n, bytes.NewReader(part)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if n := sp.used.Load(); n != 20*1000 {
		t.Errorf("the spool counts %d bytes, 20000 are there", n)
	}
	sp.dropAll("upload")
	if n := sp.used.Load(); n != 0 {
		t.Errorf("empty, it counts %d bytes", n)
	}
}
