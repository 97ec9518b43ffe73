// Package web is the pages of an AppView: where people sign in, approve devices, and see and end what may act for them.
//
//	/                       what this is, and the three lines to push an image
//	/login, /logout         sign-in at one's own server by OAuth, or by an app password where that is allowed; sign-out by POST
//	/auth/oauth/callback    where the account's server sends the browser back to
//	/device                 approves a device that waits with a code (RFC 8628)
//	/settings/access        browsers, devices, robots and clients: named, when and from where they were used, each with an end
//	/privacy, /terms
//
// Every page works without scripts; forms are plain, and what they change is taken from pages of this host alone. It writes through
// small interfaces ([OAuth], [Passwords], [Devices], [Robots], [Logins]) that registry/appview fills in: what is nil is not shown.
//
// # A device's or robot's own grant
//
// Approving a device and making a robot send the browser to the account's server once more, so that each has a sign-in of its own, which
// lives on when the browser signs out and ends alone. It counts only in the browser session that asked for it, and for its account. Where
// the browser itself is signed in by an app password, it acts by that.
//
// # Loopback
//
// OAuth sends browsers of a local application back to 127.0.0.1 alone, or to [::1] where that is the base URL or what is listened on.
// So pages asked for by localhost, or the other address, redirect there before anything is kept in a cookie. Without a fixed base URL, a
// Host that is neither loopback nor the listening address gets 421.
package web
