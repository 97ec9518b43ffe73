package rounds

import (
	"os"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.v); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.v, got, c.want)
		}
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	Print(&out, []Row{
		{What: "a", To: "x", Least: 2, Ratios: []float64{1, 3, 2}, Ours: []float64{0.25}, Unit: "ms"},
		{What: "b", To: "x", Least: 2, Ratios: []float64{1.9}, Ours: []float64{12}, Unit: "s"},
		{What: "c", To: "x", Most: 2, Ratios: []float64{1.9}, Ours: []float64{1200}, Unit: "s"},
		{What: "d", To: "x", Most: 2, Ratios: []float64{2.1}, Ours: []float64{1}, Unit: "s"},
	})
	for _, want := range []string{
		"| a | to x | at least 2.00x | 2.00x (1.00-3.00) | ok | 0.25 ms |", "| b | to x | at least 2.00x | 1.90x (1.90-1.90) | **short** | 12 s |",
		"| c | to x | at most 2.00x | 1.90x (1.90-1.90) | ok | 1200 s |", "| d | to x | at most 2.00x | 2.10x (2.10-2.10) | **short** | 1 s |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestMemory(t *testing.T) {
	now, peak := Memory(os.Getpid())
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc")
	}
	if now == 0 || peak < now {
		t.Errorf("%d KiB now, %d at most", now, peak)
	}
}
