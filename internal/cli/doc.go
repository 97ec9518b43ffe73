// Package cli is what the commands share: start-up, exit codes, printing, shell completion and manual pages. It is for cmd alone.
//
// A program is a struct that kong reads, with a Run method for each verb:
//
//	type commands struct {
//		Serve serve `cmd:"" help:"Run it."`
//		cli.Common
//	}
//
//	func main() {
//		cli.Main(cli.Program{Name: "atcr-hold", Summary: "…", Grammar: &commands{}, Defaults: config.DefaultHold()})
//	}
//
// A Run method may take a context.Context, which ends at SIGINT or SIGTERM, the *[IO], the *[Program], the structs of the verbs above it,
// and what [Program] binds.
//
// # Exit codes
//
//	0    done
//	1    it failed; the reason is on standard error
//	2    the command line is wrong
//	130  it was interrupted, as shells have it (128 + SIGINT)
package cli
