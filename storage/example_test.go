package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
	"github.com/opencontainers/go-digest"
)

func Example() {
	ctx := context.Background()
	store := memstore.New()

	d := digest.FromString("hello")
	up, err := store.Create(ctx, storage.Hint{Digest: d})
	if err != nil {
		log.Fatal(err)
	}
	defer up.Close()
	if _, err := up.ReadFrom(strings.NewReader("hello")); err != nil {
		log.Fatal(err)
	}
	if _, err := up.Commit(ctx, d); err != nil {
		log.Fatal(err)
	}

	r, info, err := store.Open(ctx, d)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	b, _ := io.ReadAll(r)
	fmt.Printf("%s, %d bytes\n", b, info.Size)
	// Output: hello, 5 bytes
}

func ExampleStore_Resume() {
	ctx := context.Background()
	store := memstore.New()
	up, _ := store.Create(ctx, storage.Hint{})
	up.Write([]byte("first, "))
	id := up.ID()
	up.Close() // the connection broke

	up, err := store.Resume(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("go on at", up.Size())
	up.Write([]byte("second"))
	_, err = up.Commit(ctx, digest.FromString("something else"))
	fmt.Println(errors.Is(err, storage.ErrDigestMismatch))
	info, err := up.Commit(ctx, digest.FromString("first, second"))
	fmt.Println(info.Size, err)
	// Output:
	// go on at 7
	// true
	// 13 <nil>
}

func ExampleWithRetry() {
	ctx := context.Background()
	flaky := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpCommit, Done: true}) // done, answer lost
	store := storage.WithRetry(flaky, &storage.RetryOptions{First: time.Millisecond})

	up, _ := store.Create(ctx, storage.Hint{})
	up.Write([]byte("x"))
	_, err := up.Commit(ctx, digest.FromString("x"))
	fmt.Println(err, flaky.Fired())
	// Output: <nil> 1
}

func ExampleNewFaults() {
	ctx := context.Background()
	store := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpWrite, After: 3, Err: storage.ErrNoSpace})
	up, _ := store.Create(ctx, storage.Hint{})
	n, err := up.ReadFrom(bytes.NewReader([]byte("hello")))
	fmt.Println(n, errors.Is(err, storage.ErrNoSpace), store.Unfired())
	// Output: 3 true []
}

func ExampleRemoveStaleUploads() {
	ctx := context.Background()
	store := memstore.New()
	up, _ := store.Create(ctx, storage.Hint{})
	up.Close()
	n, err := storage.RemoveStaleUploads(ctx, store, time.Now().Add(time.Second))
	fmt.Println(n, err)
	// Output: 1 <nil>
}
