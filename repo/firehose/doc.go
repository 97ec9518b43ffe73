// Package firehose serves com.atproto.sync.subscribeRepos of one repository: its events over a WebSocket, from the
// durable log and then as they happen.
//
//	f := firehose.New(r, nil)          // r: *repo.Repo
//	mux.Handle("GET /xrpc/com.atproto.sync.subscribeRepos", f)
//	defer f.Close()                    // ends the connections
//
// Each event is framed once and shared by all consumers. A consumer's cursor is the number of the last event it has seen:
// later ones are replayed from the log. A cursor ahead of us is the error FutureCursor; one from before the oldest
// event that is kept gets the info OutdatedCursor and then all there is. A consumer that falls too far behind gets the error
// ConsumerTooSlow and is closed; the others don't notice.
//
// Specification: https://atproto.com/specs/sync and https://atproto.com/specs/event-stream
package firehose
