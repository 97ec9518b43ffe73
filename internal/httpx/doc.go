// Package httpx holds the HTTP conventions of the project: a client that may be pointed at untrusted addresses, and a
// server that drains.
//
// # Client
//
// [NewClient] returns an *http.Client whose dialer checks the address it has connected to, not the name it was
// given, so a name that resolves to 127.0.0.1, that changes between check and use, or that is reached by a redirect,
// is refused all the same ([ErrForbiddenAddress]). What is refused and what can be opened stands at [Guard]. The
// client ignores proxies from the environment, follows few redirects, never follows one from https to http, drops
// Authorization when a redirect leaves the host and port it was meant for, and has one deadline for the whole
// exchange, body included. Bodies are read by [ReadLimited], or [Spool] when they may be long; what they take together, and how slowly
// they may come, [Answers] bounds.
//
// # Server
//
// [Serve] runs a handler on a listener until the context ends, and then drains. Headers and idle connections have time
// limits. Request bodies have none in total, since an upload may take an hour, but a sender that stalls or trickles
// is cut ([ServerOptions.BodyGrace], [ServerOptions.BodyRate]). Responses are written by net/http's own writer, so
// sendfile keeps working.
//
// Nothing here holds global state. All of it is safe for concurrent use.
package httpx
