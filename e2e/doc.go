// Package e2e holds no code, only tests of everything together: real clients push
// to and pull from whole networks.
//
// A stack (stack_test.go) is one registry with what stands behind it:
// examples/embed-registry; the sandbox; AppView and hold as the programs that
// ship, with the reference PDS. The scripts (images_test.go, artifacts_test.go,
// records_test.go) run against each. The other files are about one promise each:
// private holds, faults of the PDS, kill -9, conformance, holds of other makes.
//
// The tests build the programs themselves and see them from outside only.
package e2e
