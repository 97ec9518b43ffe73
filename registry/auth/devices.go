package auth

import "context"

// Devices are laptops and other machines that a person approved. Safe for concurrent use.
type Devices struct{ a *Auth }

// Devices returns what approves, lists and ends devices.
func (a *Auth) Devices() *Devices { return &Devices{a} }

// List returns an account's devices, the newest first.
func (d *Devices) List(ctx context.Context, did string) ([]Token, error) {
	return d.a.list(ctx, did, kindDevice)
}

// End ends one: within seconds it is refused, and so are the registry tokens that it gave. Errors: [ErrNoToken].
func (d *Devices) End(ctx context.Context, did, id string) error {
	return d.a.end(ctx, did, kindDevice, id)
}
