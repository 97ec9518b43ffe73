// Command plc-identity is a service that gives itself a did:plc: the first start makes keys and DID, every start finds them and keeps the
// directory in line with them.
//
//	go run ./examples/plc-identity DATA-FOLDER https://service.example.com
//
// PLC_URL names another directory than the public one; http and loopback addresses are then allowed.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/atcr-dev/atcr/identity"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plc-identity DATA-FOLDER URL")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Getenv("PLC_URL"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "plc-identity:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, url, plc string, out io.Writer) error {
	cfg := identity.Config{
		Dir: dir, PublicURL: url, Method: "plc", PLCURL: plc, TestMode: plc != "",
		Services: []identity.Service{{ID: "my_service", Type: "MyService"}},
	}
	id, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		return err
	}
	if _, err := identity.EnsurePLCCurrent(ctx, id, cfg); err != nil {
		slog.Warn("goes on; try again later", "error", err)
	}
	_, err = fmt.Fprintln(out, id.DID)
	return err
}
