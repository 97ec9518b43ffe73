package pds

import (
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// AnonymousPull counts a pull by nobody.
func (b *Backend) AnonymousPull(owner, repository string, d digest.Digest) {
	b.pulled(registry.Actor{}, owner, repository, d)
}

// SendPulls tells holds of all pulls that wait, and returns when they answered.
func (b *Backend) SendPulls() {
	b.sendPulls(true)
	b.work.Wait()
}
