package holdclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
)

// A push of one layer, in parts.
func ExampleClient_UploadPart() {
	push := func(ctx context.Context, hold *holdclient.Client, layer []byte) error {
		d := digest.FromBytes(layer)
		id, err := hold.InitiateUpload(ctx, d)
		if err != nil {
			return err
		}
		var parts []holdclient.Part
		for at := 0; at < len(layer); {
			n := min(16<<20, len(layer)-at)
			part, err := hold.UploadPart(ctx, id, len(parts)+1, int64(n), bytes.NewReader(layer[at:at+n]))
			if err != nil {
				return err
			}
			parts, at = append(parts, part), at+n
		}
		return hold.CompleteUpload(ctx, id, d, parts)
	}
	hold := holdclient.New(holdclient.Options{DID: "did:web:hold.example.com", URL: "http://127.0.0.1:1", HTTP: http.DefaultClient})
	fmt.Println(errors.Is(push(context.Background(), hold, []byte("layer")), holdclient.ErrUnavailable))
	// Output: true
}

// What a hold answers to a read: an address to go to, or the bytes.
func ExampleClient_GetBlob() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "layer")
	}))
	defer srv.Close()

	hold := holdclient.New(holdclient.Options{DID: "did:web:hold.example.com", URL: srv.URL, HTTP: srv.Client()})
	blob, err := hold.GetBlob(context.Background(), "did:plc:ewvi7nxzyoun6zhxrhs64oiz", digest.FromString("layer"), "")
	if err != nil {
		fmt.Println(err)
		return
	}
	if blob.URL != "" {
		fmt.Println("get it from", blob.URL)
		return
	}
	defer blob.Body.Close()
	b, err := io.ReadAll(blob.Body)
	fmt.Println(string(b), err)
	// Output: layer <nil>
}
