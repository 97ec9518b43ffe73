// Package credhelper is what docker-credential-atcr is made of: it keeps the secrets that container clients sign in to ATCR registries
// with, chooses one when docker asks, and gets new ones by signing a device in.
//
//	h, err := credhelper.New(credhelper.FromEnvironment(os.Environ()))
//	err = h.Serve("get", os.Stdin, os.Stdout, os.Stderr) // docker's protocol
//
// # Where secrets lie
//
// One file, of mode 0600 and replaced as a whole, holds the accounts of each host and which of them is in use. A secret lies in the
// system's keyring where one takes it within two seconds, else in that file. On Linux a keyring is asked only over a session bus that is
// there already: none is ever started. Processes that write wait for each other; reading waits for nobody.
//
// # Which account docker gets
//
// The first of these that says something:
//
//  1. ATCR_TOKEN, as it is, with the user name of ATCR_ACCOUNT, to the host of ATCR_HOST; without one to any host but docker's hub, and
//     where a client has this program asked for every host (credsStore), to those alone that are named, too.
//  2. ATCR_ACCOUNT: that account, or none.
//  3. The first rule of the host that fits the repository, where one is known: from the server's name, or from the command line of the
//     client that asks (Linux and macOS).
//  4. The account in use: who signed in last, or was switched to.
//
// Where nothing is found the error is [ErrNotFound], in docker's own words, so that the client goes on without sign-in. Nothing here
// asks the network but [SignIn], and nothing prompts.
package credhelper
