// Package xrpc serves repositories over HTTP: the reads of com.atproto.repo and com.atproto.sync.
//
//	mux.Handle("/xrpc/", xrpc.NewHandler(xrpc.One(r, info), nil))
package xrpc
