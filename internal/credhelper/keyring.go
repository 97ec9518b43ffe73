package credhelper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/zalando/go-keyring"
)

// Keyring keeps secrets for a person. Its methods may hang.
type Keyring interface {
	Set(service, user, secret string) error
	Get(service, user string) (string, error)
	Delete(service, user string) error
}

// SystemKeyring returns the keyring of this system: macOS's Keychain, Windows' Credential Manager, elsewhere a Secret Service on the
// session bus. It is nil where there is no such bus: asking for one would start one that nobody owns.
func SystemKeyring(env func(name string) string) Keyring {
	switch runtime.GOOS {
	case "darwin", "windows":
		return systemKeyring{}
	}
	bus := env("DBUS_SESSION_BUS_ADDRESS")
	if bus == "" {
		bus = runningBus(env("XDG_RUNTIME_DIR"), filepath.Join("/run/user", strconv.Itoa(os.Getuid())))
	}
	if bus == "" || strings.Contains(bus, "autolaunch:") {
		return nil
	}
	return systemKeyring{bus}
}

// runningBus returns the address of the first of the folders' buses that is there.
func runningBus(dirs ...string) string {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, "bus")
		if st, err := os.Stat(path); err == nil && st.Mode()&os.ModeSocket != 0 && !strings.ContainsAny(path, ",;%") {
			return "unix:path=" + path
		}
	}
	return ""
}

// systemKeyring is go-keyring, on a bus that is there.
type systemKeyring struct{ bus string }

// use has godbus look for no bus of its own: it takes the address from the environment alone, and runs dbus-launch without one.
func (k systemKeyring) use() error {
	if k.bus == "" {
		return nil
	}
	return os.Setenv("DBUS_SESSION_BUS_ADDRESS", k.bus)
}

func (k systemKeyring) Set(service, user, secret string) error {
	if err := k.use(); err != nil {
		return err
	}
	return keyring.Set(service, user, secret)
}

func (k systemKeyring) Get(service, user string) (string, error) {
	if err := k.use(); err != nil {
		return "", err
	}
	return keyring.Get(service, user)
}

func (k systemKeyring) Delete(service, user string) error {
	if err := k.use(); err != nil {
		return err
	}
	return keyring.Delete(service, user)
}

// service is what a keyring shows beside the account's name.
func service(host string) string { return "docker-credential-atcr " + host }

// within runs f for as long as a keyring may take. What takes longer goes on, and nobody waits for it.
func (h *Helper) within(f func() error) error {
	if h.Keyring == nil {
		return errors.New("there is no keyring")
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil { // the library asserts types of what the bus sends
				done <- fmt.Errorf("the keyring's answer is not understood: %v", r)
			}
		}()
		done <- f()
	}()
	timer := time.NewTimer(h.KeyringLimit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("the keyring did not answer in %s", h.KeyringLimit)
	}
}

// keyringSet puts a secret into the keyring and reads it back. The error is a reason in few words.
func (h *Helper) keyringSet(host, name, secret string) error {
	err := h.within(func() error {
		if err := h.Keyring.Set(service(host), name, secret); err != nil {
			return err
		}
		back, err := h.Keyring.Get(service(host), name)
		if err == nil && back != secret {
			err = errors.New("it returned another secret than it was given")
		}
		return err
	})
	if err == nil || h.Keyring == nil {
		return err
	}
	return fmt.Errorf("the keyring can't be used (%s)", plain(err.Error()))
}

func (h *Helper) keyringGet(host, name string) (secret string, err error) {
	got := make(chan string, 1) // what comes late must not be written to what the caller has
	err = h.within(func() error {
		s, err := h.Keyring.Get(service(host), name)
		if err == nil {
			got <- s
		}
		return err
	})
	switch {
	case err == nil:
		return <-got, nil
	case errors.Is(err, keyring.ErrNotFound):
		return "", fmt.Errorf("the secret of %s is no longer in the keyring: docker-credential-atcr login %s", name, host)
	case h.Keyring == nil:
		return "", fmt.Errorf("the secret of %s lies in a keyring, and this session has none: sign in here, too: "+
			"docker-credential-atcr login %s", name, host)
	}
	return "", fmt.Errorf("the secret of %s lies in the keyring, which can't be read (%s): unlock it, or sign in again: "+
		"docker-credential-atcr login %s", name, plain(err.Error()), host)
}

// keyringDelete removes a secret; that it isn't there is no error.
func (h *Helper) keyringDelete(host, name string) error {
	err := h.within(func() error { return h.Keyring.Delete(service(host), name) })
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return err
}
