package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
)

func TestRun(t *testing.T) {
	database, keyFile := realtest.NewPostgres(t).Database(t), filepath.Join(t.TempDir(), "key")
	var car, log bytes.Buffer
	for _, note := range []string{"one", "two"} {
		car.Reset()
		log.Reset()
		if err := run(t.Context(), []string{"--database", database, "--key", keyFile, note}, &car, &log); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), collection+"/"); n != 2 {
		t.Errorf("%d records after two runs: %s", n, &log)
	}
	key, err := loadKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: &car, DID: did, Key: public})
	if err != nil || info.Records != 2 {
		t.Errorf("%+v, %v", info, err)
	}
}
