package realtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// busScript starts a session bus that ends with its input and not by a signal, which would leave its parts behind.
const busScript = `trap "" TERM; exec dbus-run-session -- sh -c "$SERVICE"`

// serviceScript starts gnome-keyring on the bus that the shell is given, says where the bus is when the keyring is on it, and goes on
// until its input ends. With $UNLOCK the keyring is opened, or made, with that password.
const serviceScript = `
daemon() { exec gnome-keyring-daemon --foreground --components=secrets "$@" >/dev/null 2>&1; }
if [ -n "$UNLOCK" ]; then printf %s "$UNLOCK" | daemon --unlock & else daemon & fi
until dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
	string:org.freedesktop.secrets 2>/dev/null | grep -q true; do sleep 0.02; done
echo "$DBUS_SESSION_BUS_ADDRESS"
cat
kill $!; wait $!
`

// SecretService starts gnome-keyring on a session bus of its own, and returns the bus's address. Its keyring lies in dir; with a password
// it is unlocked, and made when it isn't there; without one it stays locked, and nobody is there to be asked for it.
func SecretService(t testing.TB, dir, password string) (bus string) {
	t.Helper()
	Need(t, tools.SecretService)
	run := filepath.Join(shortDir(t), "run") // of sockets, whose paths are limited
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	p := Start(t, Command{
		Name: "gnome-keyring", Path: "sh", Args: []string{"-c", busScript},
		Env: []string{"SERVICE=" + serviceScript, "HOME=" + dir, "XDG_DATA_HOME=" + filepath.Join(dir, "data"),
			"XDG_RUNTIME_DIR=" + run, "UNLOCK=" + password, "DISPLAY=", "WAYLAND_DISPLAY="},
	})
	bus, err := p.Line(30 * time.Second)
	if err != nil {
		t.Fatalf("realtest: gnome-keyring: %v\n%s", err, p.Log())
	}
	return bus
}
