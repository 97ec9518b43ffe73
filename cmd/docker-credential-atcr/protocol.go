package main

import (
	"fmt"

	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/credhelper"
)

type (
	getCommand   struct{}
	storeCommand struct{}
	eraseCommand struct{}
	listCommand  struct{}
)

func (*getCommand) Run(std *cli.IO) error   { return serve(std, "get") }
func (*storeCommand) Run(std *cli.IO) error { return serve(std, "store") }
func (*eraseCommand) Run(std *cli.IO) error { return serve(std, "erase") }
func (*listCommand) Run(std *cli.IO) error  { return serve(std, "list") }

// serve is one verb of docker's protocol.
func serve(std *cli.IO, verb string) error {
	if verb != "list" && stdinIsTerminal(std) {
		return cli.Usagef("%s is for docker, and reads standard input; people have login, logout, status and switch", verb)
	}
	h, err := helper(std)
	if err != nil { // clients show one or the other
		fmt.Fprintln(std.Out, err)
		fmt.Fprintf(std.Err, "%s: %v\n", credhelper.ClientID, err)
		return cli.ErrPrinted
	}
	if h.Serve(verb, std.In, std.Out, std.Err) != nil {
		return cli.ErrPrinted
	}
	return nil
}

// helper opens what the environment says.
func helper(std *cli.IO) (*credhelper.Helper, error) {
	c := credhelper.FromEnvironment(std.Environ)
	c.Note = func(text string) { fmt.Fprintf(std.Err, "%s: %s\n", credhelper.ClientID, text) }
	return credhelper.New(c)
}
