package backup_test

import (
	"testing"

	"github.com/atcr-dev/atcr/hold/backup/targettest"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	targettest.Run(t, folder(t))
}
