package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestPostgres gives a database to a hold and an AppView whose folders have images: these stay, and push, pull, delete, restart and
// kill -9 go on as before, each table being there.
func TestPostgres(t *testing.T) {
	t.Parallel()
	server := realtest.Postgres(t)
	s := startServices(t, servicesOptions{})
	crane := realtest.NewCrane(t, s.Login)
	push := func(tag string, seed uint64) *realtest.ImageFile {
		t.Helper()
		img := realtest.Image(t, realtest.ImageOptions{SizeMB: 2, Layers: 2, Seed: seed})
		must(crane.Push(img, s.ref("pg", tag)))(t)
		return img
	}
	pulls := func(when, tag string, img *realtest.ImageFile) {
		t.Helper()
		if got := must(realtest.NewCrane(t, s.anonymous()).Pull(s.ref("pg", tag)))(t); got != img.Digest {
			t.Errorf("%s: %s is %s, want %s", when, tag, got, img.Digest)
		}
	}
	again := func() {
		t.Helper()
		_, _ = s.app.Kill(), s.hold.Kill() // kill -9
		s.startHold(t)
		s.startAppView(t)
	}
	first := push(":v1", 71)

	holdURL, appURL := server.Database(t), server.Database(t)
	s.o.Hold = func(c map[string]any) { c["database"].(map[string]any)["url"] = holdURL }
	s.o.AppView = func(c map[string]any) { c["ui"].(map[string]any)["database_url"] = appURL }
	again()
	for _, file := range []string{"hold/repo.db", "hold/hold.db", "appview/appview.db"} {
		_, gone := os.Stat(filepath.Join(s.dir, file))
		_, moved := os.Stat(filepath.Join(s.dir, file+".moved"))
		if !os.IsNotExist(gone) || moved != nil {
			t.Errorf("%s: %v; moved: %v", file, gone, moved)
		}
	}
	pulls("after the move", ":v1", first)
	second := push(":v2", 72)
	pulls("pushed on PostgreSQL", ":v2", second)
	must(crane.Run("delete", s.ref("pg", "@"+first.Digest)))(t)
	again()
	pulls("after kill -9", ":v2", second)
	if _, err := realtest.NewCrane(t, s.anonymous()).Pull(s.ref("pg", ":v1")); err == nil {
		t.Error("what was deleted is there")
	}
	pulls("pushed after kill -9", ":v3", push(":v3", 73))
}
