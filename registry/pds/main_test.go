package pds_test

import (
	"os"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }
