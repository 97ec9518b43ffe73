package main

import (
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
)

// serveBare as first argument makes this program the bare server.
const serveBare = "serve-bare"

// runBare returns every manifest with the same bytes and headers, and every blob with one file by http.ServeFile.
func runBare(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s FILE", serveBare)
	}
	body := manifest(sizedBlob(configSize), sizedBlob(layerSize), 0)
	d, length := digest.FromBytes(body).String(), strconv.Itoa(len(body))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	mux.HandleFunc("GET /v2/bench/app/manifests/{ref}", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", manifestType)
		h.Set("Content-Length", length)
		h.Set("Docker-Content-Digest", d)
		h.Set("Etag", `"`+d+`"`)
		w.Write(body)
	})
	mux.HandleFunc("GET /v2/bench/app/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeFile(w, r, args[0])
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, mux)
}
