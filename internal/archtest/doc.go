// Package archtest holds no code, only tests of the codebase itself: which package may
// import which, how many third-party packages a package may bring, and that
// docs/dependencies.md has a line for each library in use.
//
// The rules are the table in rules_test.go. A new package needs a line there; a
// failing import is reported with the chain that brought it.
package archtest
