package e2e

import "testing"

// scripts runs everything a registry must do for real clients.
func scripts(t *testing.T, s *stack) {
	for _, script := range []struct {
		name string
		run  func(*testing.T, *stack)
	}{
		{"every client", everyClient},
		{"index", imageIndex},
		{"tags", tags},
		{"artifacts", artifacts},
		{"deleting", deleting},
	} {
		t.Run(script.name, func(t *testing.T) { script.run(t, s) })
	}
	if s.atproto() {
		t.Run("records and layers", func(t *testing.T) { recordsAndLayers(t, s) })
	}
}

func TestEmbedRegistry(t *testing.T) {
	t.Parallel()
	scripts(t, embedRegistry(t))
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	s, _ := sandbox(t, t.TempDir())
	scripts(t, s)
}
