// Package blobhttp is what a registry and a hold share of HTTP for blobs: serving one, and taking one in pieces.
//
// [Serve] answers a GET or HEAD of a [Content]: single and multiple ranges, suffixes, If-None-Match, If-Match and If-Range
// (RFC 9110 §13 and §14). Bytes that come as a bare *os.File go out by sendfile, provided that every wrapper of the
// http.ResponseWriter passes ReadFrom on.
//
//	err := blobhttp.Serve(w, r, blobhttp.Content{Digest: d, Size: size, Open: open})
//
// [Append] takes a request's body to the end of an upload, and nothing else: a Content-Range that does not begin where
// the upload ends, or that contradicts Content-Length, is refused before a byte is read, and a body that ends early is an
// error although its bytes are kept. [UploadRange] is how much is there, as the wire says it.
//
// [Harden] sets the headers that keep a browser from running what an untrusted user stored. Package pace cuts a sender that
// stalls or trickles.
//
// Errors are of the kinds in errors.go; the caller gives them the code of its protocol. Nothing is written to the
// response before an error is returned, unless it is [ErrAborted]. The package keeps no state.
package blobhttp
