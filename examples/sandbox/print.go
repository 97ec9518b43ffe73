package main

import (
	"encoding/json"
	"io"
	"text/template"
)

// line is what --json prints, on one line, when everything answers.
type line struct {
	Registry string `json:"registry"` // host:port
	Hold     string `json:"hold"`     // URL
	HoldDID  string `json:"hold_did"`
	PDS      string `json:"pds"` // URL
	Handle   string `json:"handle"`
	DID      string `json:"did"`
	Password string `json:"password"`
}

func (n *network) printJSON(w io.Writer) error { return json.NewEncoder(w).Encode(n.line) }

var commands = template.Must(template.New("").Parse(`The network is up. Sign in as {{.Handle}}, push, and pull without signing in:

  docker login {{.Registry}} -u {{.Handle}} -p {{.Password}}
  docker tag IMAGE {{.Registry}}/{{.Handle}}/app:v1
  docker push {{.Registry}}/{{.Handle}}/app:v1
  docker logout {{.Registry}} && docker pull {{.Registry}}/{{.Handle}}/app:v1

  podman login --tls-verify=false {{.Registry}} -u {{.Handle}} -p {{.Password}}
  podman push --tls-verify=false IMAGE {{.Registry}}/{{.Handle}}/app:v1

  crane auth login {{.Registry}} -u {{.Handle}} -p {{.Password}}
  crane push image.tar {{.Registry}}/{{.Handle}}/app:v1
  crane manifest {{.Registry}}/{{.Handle}}/app:v1

Or sign this machine in on a page, as {{.Handle}} with the password above (go install ./cmd/docker-credential-atcr):

  docker-credential-atcr login {{.Registry}}

What may act for the account, and its end: http://{{.Registry}}/settings/access

The records of an image, in the account's own repository, and the hold's record of whose its layers are:

  curl '{{.PDS}}/xrpc/com.atproto.repo.listRecords?repo={{.DID}}&collection=io.atcr.manifest'
  curl '{{.Hold}}/xrpc/com.atproto.repo.listRecords?repo={{.HoldDID}}&collection=io.atcr.hold.layer'

Stop with Ctrl-C; started again on the same folder it is the same network.
`))

func (n *network) printCommands(w io.Writer) error { return commands.Execute(w, n.line) }
