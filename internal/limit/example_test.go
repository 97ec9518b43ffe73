package limit_test

import (
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/limit"
)

func ExampleRates() {
	r, now := limit.NewRates(5, 2), time.Now()
	for range 3 {
		fmt.Println(r.Take("203.0.113.9", now))
	}
	// Output:
	// 0s
	// 0s
	// 200ms
}
