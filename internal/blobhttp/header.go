package blobhttp

import "net/http"

// Harden sets headers on an answer whose bytes an untrusted user may have chosen: no sniffing, no display, no script. The
// same values go to every call; append nothing to them.
func Harden(h http.Header) {
	h["X-Content-Type-Options"] = nosniff
	h["Content-Disposition"] = attachment
	h["Content-Security-Policy"] = sandbox
}

// Shared by all answers, never changed.
var (
	nosniff     = []string{"nosniff"}
	attachment  = []string{"attachment"}
	sandbox     = []string{"default-src 'none'; sandbox"}
	octetStream = []string{"application/octet-stream"}
	bytesUnit   = []string{"bytes"}
)
