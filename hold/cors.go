package hold

import "net/http"

// forAnyOrigin lets pages of any origin read what everybody may: tools that run in a browser. There is nothing here that a browser
// adds by itself, and * does not let a page send Authorization (Fetch standard, "CORS protocol and HTTP caches").
func forAnyOrigin(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		head.Set("Access-Control-Expose-Headers", "*")
		if r.Method == http.MethodOptions {
			head.Set("Access-Control-Allow-Methods", "GET, HEAD")
			head.Set("Access-Control-Allow-Headers", "*")
			head.Set("Access-Control-Max-Age", "86400")
			head.Set("Allow", "GET, HEAD, OPTIONS")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h(w, r)
	}
}
