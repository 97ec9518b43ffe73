//go:build !linux && !darwin

package credhelper

// callersCommand knows nothing here.
func callersCommand() []string { return nil }
