// Package xrpc serves repositories over HTTP: the reads of com.atproto.repo and com.atproto.sync, as the AT Protocol's
// lexicons have them. It serves one repository (a hold) or many (a PDS).
//
//	h := xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: r, Handle: "hold.example.com"}), nil)
//	mux.Handle("/xrpc/", h)
//
// A server that answers some methods itself mounts the others one by one, see [Handler.Methods]. Errors are XRPC JSON,
// {"error": NAME, "message": TEXT}; [Error] is how a server's own methods make them, and [WriteError] writes them.
package xrpc
