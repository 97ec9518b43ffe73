package holdclient_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atcr-dev/atcr/hold/holdclient"
)

// A hold says where a part goes and with which headers. It must not use us to speak to others in a name that is not its own.
func TestPartHeadersOfStrangers(t *testing.T) {
	var got atomic.Int64
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.Header().Set("ETag", `"1"`)
	}))
	defer victim.Close()
	for name, taken := range map[string]bool{
		"X-Amz-Date": true, "content-md5": true, "X-Upload-Id": true,
		"X-Forwarded-For": false, "Forwarded": false, "Proxy-Authorization": false, "Upgrade": false, "Cookie": false, "host": false, "X-Real-IP": false,
	} {
		got.Store(0)
		hold := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"url": victim.URL + "/part", "method": "PUT",
				"headers": map[string]string{name: "127.0.0.1"}})
		}))
		c := holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: hold.URL, HTTP: http.DefaultClient})
		_, err := c.UploadPart(t.Context(), "upload", 1, 4, strings.NewReader("part"))
		if taken && (err != nil || got.Load() != 1) || !taken && (!errors.Is(err, holdclient.ErrBadAnswer) || got.Load() != 0) {
			t.Errorf("%s: %v, the storage was asked %d times", name, err, got.Load())
		}
		hold.Close()
	}
}
