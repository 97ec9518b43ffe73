package httpx_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/atcr-dev/atcr/internal/httpx"
)

func ExampleNewClient() {
	client := httpx.NewClient(httpx.ClientOptions{})
	_, err := client.Get("http://localhost:1/admin")
	fmt.Println(errors.Is(err, httpx.ErrForbiddenAddress))
	// Output: true
}

func ExampleWithClient() {
	h := httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(httpx.ClientAddr(r))
	}), httpx.VisitOptions{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	r := httptest.NewRequest(http.MethodGet, "/", nil) // from 192.0.2.1
	r.Header.Set("X-Forwarded-For", "198.51.100.7, 203.0.113.9")
	h.ServeHTTP(httptest.NewRecorder(), r)
	// Output: 203.0.113.9
}
