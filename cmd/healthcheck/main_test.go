package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			w.Write([]byte(`{"status":"ok"}`))
		case "/moved":
			http.Redirect(w, r, "/health", http.StatusFound)
		default:
			http.Error(w, "database is gone", http.StatusServiceUnavailable)
		}
	}))
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	defer server.Close()
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{server.URL + "/health"}, 0, ""},
		{[]string{server.URL + "/moved"}, 0, ""},
		{[]string{server.URL + "/sick"}, 1, "503 Service Unavailable: \"database is gone"},
		{[]string{gone.URL}, 1, "healthcheck: "},
		{[]string{"://"}, 1, "healthcheck: "},
		{nil, 2, "usage"},
		{[]string{"--help"}, 2, "usage"},
		{[]string{"a", "b"}, 2, "usage"},
	} {
		var stderr bytes.Buffer
		if code := run(c.args, &stderr); code != c.code || !strings.Contains(stderr.String(), c.text) || c.text == "" && stderr.Len() > 0 {
			t.Errorf("%q: got %d, %q", c.args, code, &stderr)
		}
	}
}
