// Package devnet is a small AT Protocol network for development: a did:plc directory and a Personal Data Server with a
// few accounts, in one process and on loopback. The sandbox runs on it; nothing that ships to servers imports it.
//
//	net, err := devnet.Start(ctx, devnet.Config{Dir: "data", PDSAddr: "127.0.0.1:2583"})
//	alice := net.Accounts()[0]                 // alice.test, with a DID and a password
//	fmt.Println(net.PDSURL(), alice.DID)
//	defer net.Close()
//
// Everything is kept in Dir: started again on it, the network is the same one, whatever its ports are by then.
//
// The server keeps each account in a repository of package repo and answers as the reference PDS does in what ATCR uses:
// sessions with the main password and with app passwords, service tokens, records with swaps, blobs. One table of requests
// runs against both and compares (parity_test.go). It has no OAuth, no firehose, no e-mail, and no rate limits; passwords
// lie readable in Dir. Never put it on a network.
//
// [Directory] and [PDS] are plain http.Handlers for those who want to serve them otherwise.
package devnet
