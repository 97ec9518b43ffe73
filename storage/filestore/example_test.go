package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/filestore"
	"github.com/opencontainers/go-digest"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	store, err := filestore.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	up, err := store.Create(ctx, storage.Hint{})
	if err != nil {
		log.Fatal(err)
	}
	up.Write([]byte("hello"))
	if _, err := up.Commit(ctx, digest.FromString("hello")); err != nil {
		log.Fatal(err)
	}
	store.Close()

	// The next process finds it.
	store, err = filestore.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	info, err := store.Stat(ctx, digest.FromString("hello"))
	fmt.Println(info.Size, err)
	_, err = store.Stat(ctx, digest.FromString("bye"))
	fmt.Println(errors.Is(err, storage.ErrNotFound))
	// Output:
	// 5 <nil>
	// true
}
