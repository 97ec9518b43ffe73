package hold

import (
	"log/slog"
	"testing"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// Whatever client asks members' PDSes, its answers are within a budget: a client that is within one already stays as it is.
func TestAnswersAreWithinABudget(t *testing.T) {
	t.Parallel()
	s, err := New(t.Context(), Config{
		Dir: t.TempDir(), PublicURL: "http://localhost:5608", OwnerDID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", TestMode: true,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if httpx.NewAnswers(httpx.AnswersOptions{}).Client(s.http) != s.http {
		t.Error("PDSes' answers may take any memory, and any time")
	}
}
