// Command docker-credential-atcr signs this device in to ATCR registries, and hands docker, podman, skopeo and crane the secret that
// they sign in with.
//
//	docker-credential-atcr login registry.example.com    # prints a page to open; docker push works then
//	docker-credential-atcr status
//	docker-credential-atcr switch bob.example.com
//	docker-credential-atcr logout
//
// In a CI job, the variable ATCR_TOKEN with a robot's secret is enough, once `docker-credential-atcr configure-docker HOST` has run.
package main

import (
	"os"

	"golang.org/x/term"

	"github.com/atcr-dev/atcr/internal/cli"
)

type commands struct {
	Login     loginCommand     `cmd:"" help:"Sign this device in, by a page in the browser, and have docker use it."`
	Logout    logoutCommand    `cmd:"" help:"Forget an account's secret."`
	Status    statusCommand    `cmd:"" help:"Show who is signed in where."`
	Switch    switchCommand    `cmd:"" help:"Use another account, always or for some repositories."`
	Configure configureCommand `cmd:"" name:"configure-docker" help:"Have docker, podman, skopeo and crane ask this program for a registry."`

	Get   getCommand   `cmd:"" group:"docker" help:"Print the secret for the registry on standard input."`
	Store storeCommand `cmd:"" group:"docker" help:"Keep the secret that is on standard input, as docker login has it."`
	Erase eraseCommand `cmd:"" group:"docker" help:"Forget the secret for the registry on standard input, as docker logout has it."`
	List  listCommand  `cmd:"" group:"docker" help:"Print the registries and user names."`

	cli.Common
}

func main() {
	cli.Main(cli.Program{
		Name: "docker-credential-atcr", Summary: "Signs container clients in to ATCR registries.", Grammar: &commands{},
		Detail: "docker, podman, skopeo and crane run this program when they need a secret for a registry that their configuration " +
			"names it for (credHelpers). Secrets lie in the keyring of the system where one takes them at once, else in a file " +
			"that only their owner can read. Several accounts may be signed in at a registry.",
		Vars:   map[string]string{"host": "Registry, as registry.example.com or 127.0.0.1:5000; may be left out where one is known."},
		Groups: map[string]string{"docker": "For docker, which calls these itself:"},
		Variables: [][2]string{
			{"ATCR_TOKEN", "The secret of a robot or device, or with ATCR_ACCOUNT an app password: used in place of all that is kept."},
			{"ATCR_HOST", "The only registry that ATCR_TOKEN is for, and the one meant where HOST is left out."},
			{"ATCR_ACCOUNT", "The account to use, whatever is in use and whatever rules say."},
			{"ATCR_HELPER_DIR", "Folder of the file of accounts; atcr in the user's configuration folder otherwise."},
			{"DOCKER_CONFIG", "Folder of docker's configuration; .docker in the home folder otherwise."},
			{"REGISTRY_AUTH_FILE", "Configuration of podman and skopeo, which read no other where it is set."},
		},
	})
}

// stdinIsTerminal reports whether nobody but a person at the keyboard would write to standard input.
func stdinIsTerminal(std *cli.IO) bool {
	f, ok := std.In.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
