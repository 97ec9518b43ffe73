package filestore

import (
	"os"
	"testing"
)

// TestKillAtRandomLong is the campaign: more than fifty kills.
func TestKillAtRandomLong(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("long: set ATCR_LONG=1")
	}
	killAtRandom(t, 60)
}
