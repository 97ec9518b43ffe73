package appview

import (
	"net/http"
	"testing"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// Whatever client asks PDSes and holds, its answers are within the budget: a client that is within one already stays as it is.
func TestAnswersAreWithinTheBudget(t *testing.T) {
	t.Parallel()
	for _, c := range []*http.Client{nil, {}} {
		s, err := New(t.Context(), Config{Dir: t.TempDir(), DefaultHold: "did:web:hold.example.com", HTTP: c})
		if err != nil {
			t.Fatal(err)
		}
		if httpx.NewAnswers(httpx.AnswersOptions{}).Client(s.cfg.HTTP) != s.cfg.HTTP {
			t.Error("answers may take any memory, and any time")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
