package httpx_test

import (
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/internal/httpx"
)

func ExampleNewClient() {
	client := httpx.NewClient(httpx.ClientOptions{})
	_, err := client.Get("http://localhost:1/admin")
	fmt.Println(errors.Is(err, httpx.ErrForbiddenAddress))
	// Output: true
}
