package storagemetrics_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
	"github.com/atcr-dev/atcr/storage/storagemetrics"
	"github.com/atcr-dev/atcr/storage/storagetest"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
)

func TestSuiteWrapped(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		Open: func() (storage.Store, error) { return storagemetrics.New("mem").Wrap(memstore.New()), nil },
		Small: func(n int64) (storage.Store, error) {
			return storagemetrics.New("mem").Wrap(memstore.NewWith(&memstore.Options{Limit: n})), nil
		},
	})
}

func TestCounts(t *testing.T) {
	m := storagemetrics.New("mem")
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m.Collectors()...)
	f := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpDelete})
	s := m.Wrap(f)
	ctx, d := t.Context(), digest.FromString("abc")
	up, err := s.Create(ctx, storage.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	open, err := s.Create(ctx, storage.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	up.Write([]byte("ab"))
	up.ReadFrom(strings.NewReader("c"))
	up.Commit(ctx, digest.FromString("other"))
	up.Commit(ctx, d)
	up.Close()
	s.Stat(ctx, d)
	s.Stat(ctx, digest.FromString("missing"))
	s.Delete(ctx, d)
	s.Delete(ctx, d)
	if f.Fired() != 1 {
		t.Fatal("the fault did not fire")
	}
	want := []string{
		"atcr_storage_calls_total close ok 1",
		"atcr_storage_calls_total commit digest_mismatch 1",
		"atcr_storage_calls_total commit ok 1",
		"atcr_storage_calls_total create ok 2",
		"atcr_storage_calls_total delete error 1",
		"atcr_storage_calls_total delete ok 1",
		"atcr_storage_calls_total stat not_found 1",
		"atcr_storage_calls_total stat ok 1",
		"atcr_storage_calls_total write ok 1",
		"atcr_storage_open_uploads 1",
		"atcr_storage_written_bytes_total 3",
	}
	if got := values(t, reg); !slices.Equal(got, want) {
		t.Errorf("counted\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	open.Close()
}

// values are the counters and gauges as "name label values… value".
func values(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() != "driver" {
					line += " " + l.GetValue()
				}
			}
			switch {
			case m.Counter != nil:
				out = append(out, fmt.Sprint(line, " ", m.Counter.GetValue()))
			case m.Gauge != nil:
				out = append(out, fmt.Sprint(line, " ", m.Gauge.GetValue()))
			}
		}
	}
	return out
}

func ExampleMetrics_Wrap() {
	m := storagemetrics.New("file")
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.Collectors()...)
	store := m.Wrap(memstore.New())
	fmt.Println(store != nil)
	// Output: true
}
