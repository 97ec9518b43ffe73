package budget_test

import (
	"context"
	"fmt"

	"github.com/atcr-dev/atcr/internal/budget"
)

func Example() {
	memory := budget.New(64<<20, 16<<20)
	release, err := memory.Take(context.Background(), 16<<20, false, "did:plc:fill")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer release()
	fmt.Println(memory.Try(1, 64<<20, "did:plc:fill"), memory.Try(1, 64<<20, "did:plc:alice"))
	// Output: false true
}
