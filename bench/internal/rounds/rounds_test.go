package rounds

import (
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
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
		"| a | to x | at least 2.00x | 2.00x (1.00-3.00) | ok | 0.25 ms |",
		"| b | to x | at least 2.00x | 1.90x (1.90-1.90) | **short** | 12 s |",
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

func TestRun(t *testing.T) {
	r, err := Start(Options{Rounds: 2, Seed: 7, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var ended []int
	for i := range 2 {
		r.OnEnd(func() error { ended = append(ended, i); return nil })
	}
	for i := range 2 {
		r.Faster(Row{What: "a", To: "x", Least: 0.95, Unit: "ms"}, 2, float64(1+i))
		r.Within(Row{What: "b", To: "x", Most: 3, Unit: "ms"}, 2, 1)
		r.Memory("m", 3, 1000*int64(1+i))
	}
	var out strings.Builder
	if err := r.Print(&out, func(w io.Writer) { io.WriteString(w, "more\n") }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 rounds, seed 7;", "| a | to x | at least 0.95x | 0.75x (0.50-1.00) | **short** | 2 ms |",
		"| b | to x | at most 3.00x | 2.00x (2.00-2.00) | ok | 2 ms |", "| m | 3 MB | 2 MB | ok |", "\nmore\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, out.String())
		}
	}
	if err := r.End(); err != nil || !slices.Equal(ended, []int{1, 0}) {
		t.Errorf("ended %v, %v", ended, err)
	}
	if _, err := os.Stat(r.Folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there still: %v", err)
	}
}

func TestMainFlags(t *testing.T) {
	before := filepath.Join(t.TempDir(), "before")
	if err := os.WriteFile(before, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    string
		want    Options
		out     string
		wantErr string
	}{
		{args: "", want: Options{Rounds: 3}},
		{args: "-rows a,b -rounds 4 -quick", want: Options{Rounds: 4, Only: []string{"a", "b"}, Quick: true}},
		{args: "-against " + before, want: Options{Rounds: AgainstRounds, Against: before}},
		{args: "-against " + before + "x", wantErr: "no such file"},
		{args: "-rounds -1", wantErr: "-rounds"},
		{args: "a", wantErr: `unexpected argument "a"`},
		{args: "-list", out: "a                    first\n"},
		{args: "child x", out: "child x\n"},
	} {
		var out strings.Builder
		var got *Options
		p := Program{
			Rounds: 3, ChildVerb: "child", Child: func(_ context.Context, args []string) error {
				_, err := io.WriteString(&out, "child "+strings.Join(args, " ")+"\n")
				return err
			},
			Rows: func() []Named { return []Named{{"a", "first"}} },
			Run:  func(_ context.Context, o Options, _ io.Writer) error { got = &o; return nil },
		}
		err := p.run(t.Context(), flag.NewFlagSet("", flag.ContinueOnError), strings.Fields(c.args), &out)
		switch {
		case c.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%q: error is %v, want %q", c.args, err, c.wantErr)
			}
		case err != nil || out.String() != c.out || (got == nil) != (c.out != "") || got != nil && !reflect.DeepEqual(*got, c.want):
			t.Errorf("%q: %+v, %q, %v; want %+v, %q", c.args, got, out.String(), err, c.want, c.out)
		}
	}
}

func TestChoose(t *testing.T) {
	name := func(s string) string { return s }
	if got, err := Choose([]string{"a", "b"}, []string{"b"}, name); err != nil || !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Choose([]string{"a"}, []string{"c"}, name); err == nil || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("error is %v", err)
	}
}

func TestCommand(t *testing.T) {
	e, err := Command(t.Context(), []string{"WHO=me"}, "sh", "-c", "echo $WHO")
	if err != nil || string(e.Out) != "me\n" || e.MS <= 0 || runtime.GOOS == "linux" && e.KiB <= 0 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := Command(t.Context(), nil, "sh", "-c", "echo no >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("error is %v", err)
	}
}
