package memstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
)

func ExampleNewWith() {
	store := memstore.NewWith(&memstore.Options{Limit: 10})
	up, _ := store.Create(context.Background(), storage.Hint{})
	n, err := up.Write([]byte("more than ten bytes"))
	fmt.Println(n, errors.Is(err, storage.ErrNoSpace))
	// Output: 10 true
}
