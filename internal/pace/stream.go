package pace

import (
	"io"
	"net/http"
	"time"
)

// Stream bounds how slowly a client may read an answer whose length is not known beforehand: waiting for it may take grace, plus
// a second for each rate bytes that it took; what was saved up so is never more than a minute, or grace if that is longer. Time in
// which nothing is written is not counted. A write beyond that fails with os.ErrDeadlineExceeded. The function that it returns
// sends what is left and lifts the bound for the connection's next answer. Where the server can't set deadlines
// ([http.ResponseController]) there is no bound.
func Stream(w http.ResponseWriter, grace time.Duration, rate int64) (out io.Writer, lift func()) {
	ctl := http.NewResponseController(w)
	s := &stream{w: w, ctl: ctl, patience: newPatience(grace, rate)}
	return s, func() {
		if s.n > 0 { // else there may be an error to answer yet
			_ = ctl.Flush()
		}
		_ = ctl.SetWriteDeadline(time.Time{})
	}
}

type stream struct {
	w        io.Writer
	ctl      *http.ResponseController
	patience patience
	n        int64
}

// longestWrite is what may be written under one deadline: what a write earns counts once it is done.
const longestWrite = 64 << 10

func (s *stream) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var m int
		start := time.Now()
		_ = s.ctl.SetWriteDeadline(start.Add(s.patience.left))
		m, err = s.w.Write(p[:min(len(p), longestWrite)])
		s.patience.spend(time.Since(start), int64(m))
		n, p = n+m, p[m:]
		s.n += int64(m)
	}
	return n, err
}
