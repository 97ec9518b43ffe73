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
func RepoOracleCommand() ([]string, error) {
	sum := sha256.Sum256(repoOracle)
	path := filepath.Join(stackDir(), fmt.Sprintf("repo-%x.mjs", sum[:6]))
	if _, err := os.Stat(path); err != nil {
		if err := writeFile(path, repoOracle); err != nil {
			return nil, err
		}
	}
	return []string{nodePath(), path}, nil
}
