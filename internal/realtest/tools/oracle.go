package tools

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed stack/repo-oracle.mjs
var repoOracle []byte

// RepoOracleCommand is the command line that asks @atproto/repo about repositories; the script tells its arguments. It needs
// [ATProto].
func RepoOracleCommand() ([]string, error) { return ScriptCommand(repoOracle) }

// ScriptCommand is the command line that runs a script of the caller's with node and the npm packages of [ATProto], which
// it needs. The script is written beside the packages, under a name that its content decides.
func ScriptCommand(script []byte) ([]string, error) {
	sum := sha256.Sum256(script)
	path := filepath.Join(stackDir(), fmt.Sprintf("script-%x.mjs", sum[:6]))
	if _, err := os.Stat(path); err != nil {
		if err := writeFile(path, script); err != nil {
			return nil, err
		}
	}
	return []string{nodePath(), path}, nil
}
