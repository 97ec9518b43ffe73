package backup_test

import (
	"testing"

	"github.com/atcr-dev/atcr/hold/backup/targettest"
)

func TestFolder(t *testing.T) {
	targettest.Run(t, folder(t))
}
