package pace

import (
	"net/http"
	"time"
)

// The slowest reader that is waited for: a minute, and a second for each answerRate bytes.
const (
	answerGrace = time.Minute
	answerRate  = 8 << 10
)

// Answer bounds how long a client may take to read an answer of n bytes; what it has not read by then, it does not get. The
// connection's own writer is not wrapped, so sendfile goes on working. The function that it returns lifts the bound for
// the connection's next answer.
func Answer(w http.ResponseWriter, n int64) (lift func()) {
	return answer(w, answerGrace+time.Duration(n/answerRate)*time.Second)
}

func answer(w http.ResponseWriter, limit time.Duration) (lift func()) {
	ctl := http.NewResponseController(w)
	if ctl.SetWriteDeadline(time.Now().Add(limit)) != nil {
		return func() {}
	}
	return func() { _ = ctl.SetWriteDeadline(time.Time{}) }
}
