package pace

import (
	"io"
	"net/http"
	"time"
)

// Stream bounds how slowly a client may read an answer whose length is not known beforehand: all of it together may take grace,
// plus a second for each rate bytes. A write beyond that fails with os.ErrDeadlineExceeded. The function that it returns sends what
// is left and lifts the bound for the connection's next answer. Where the server can't set deadlines
// ([http.ResponseController]) there is no bound.
func Stream(w http.ResponseWriter, grace time.Duration, rate int64) (out io.Writer, lift func()) {
	ctl := http.NewResponseController(w)
	s := &stream{w: w, ctl: ctl, start: time.Now(), grace: grace, rate: rate}
	return s, func() {
		if s.n > 0 { // else there may be an error to answer yet
			_ = ctl.Flush()
		}
		_ = ctl.SetWriteDeadline(time.Time{})
	}
}

type stream struct {
	w     io.Writer
	ctl   *http.ResponseController
	start time.Time
	grace time.Duration
	rate  int64
	n     int64
}

func (s *stream) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	earned := time.Duration(float64(s.n) / float64(s.rate) * float64(time.Second))
	_ = s.ctl.SetWriteDeadline(s.start.Add(s.grace + earned))
	return s.w.Write(p)
}
