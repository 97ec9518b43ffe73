// Package archtest holds no code, only tests of the house itself: which room may
// import which, how many foreign packages a room may bring, and that
// docs/dependencies.md has a line for each library in use.
//
// The rules are the table in rules_test.go. A new package needs a line there; a
// failing import is reported with the chain that brought it.
package archtest
