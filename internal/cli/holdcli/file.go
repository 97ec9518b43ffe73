package holdcli

import (
	"log/slog"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
)

// HoldFile is embedded by verbs that are about the hold of a configuration.
type HoldFile struct{ cli.ConfigFile }

// load reads the configuration, for a verb that logs warnings only.
func (f HoldFile) load(std *cli.IO) (*config.Hold, hold.Config, error) {
	settled, _, err := config.LoadHold(f.Config, std.Environ)
	if err != nil {
		return nil, hold.Config{}, err
	}
	return settled, Settings(settled, cli.Logger(std, slog.LevelWarn)), nil
}

// Scrypt is the work factor of files that are encrypted by passphrase, a power of two; 0 is age's own, a second for each guess. Tests
// lower it.
type Scrypt struct{ Work int }
