package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// A helm chart is pushed and pulled.
func TestHelmChart(t *testing.T) {
	realtest.Long(t, "helm")
	s, _ := sandbox(t, t.TempDir())
	dir := t.TempDir()
	chart := filepath.Join(dir, "chart")
	if err := os.MkdirAll(filepath.Join(chart, "templates"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: chart\nversion: 0.1.0\n",
		"templates/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n",
	} {
		if err := os.WriteFile(filepath.Join(chart, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	helm := realtest.NewHelm(t, s.Login)
	must(helm.Run("package", chart, "-d", dir))(t)
	must(helm.Run("push", "--plain-http", filepath.Join(dir, "chart-0.1.0.tgz"), "oci://"+s.ref("charts", "")))(t)
	must(helm.Run("pull", "--plain-http", "oci://"+s.ref("charts/chart", ""), "--version", "0.1.0", "-d", t.TempDir()))(t)
}
