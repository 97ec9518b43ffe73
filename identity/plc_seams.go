package identity

// Seams names the places where tests end the process. Config.Seam, nil in production, is called with the name when the process
// stands there; what the comment says is then on the disk or at the directory, and nothing later is.
//
//	signing-key-durable    the signing key of a new did:plc
//	rotation-key-durable   and its rotation key
//	genesis-durable        and genesis.json; no did.txt
//	did-durable            and did.txt; the directory has not heard of it
//	genesis-submitted      the directory was asked to take it
//	update-signed          an operation is signed and in memory alone
//	update-submitted       the directory answered; the log kept here is behind
//	next-key-durable       a rotation's new key, beside the old one; the directory knows the old one
//	next-key-confirmed     the directory names the new key; the file under the key's own name is still the old one
//	next-key-promoted      the new key has the name; the old one lies beside it
//
// After each a start finds one DID and every key that the directory may name.
func Seams() []string {
	return []string{
		seamSigningKey, seamRotationKey, seamGenesis, seamDID, seamSubmitted,
		seamUpdateSigned, seamUpdateSubmitted, seamNextKey, seamNextConfirmed, seamNextPromoted,
	}
}

const (
	seamSigningKey      = "signing-key-durable"
	seamRotationKey     = "rotation-key-durable"
	seamGenesis         = "genesis-durable"
	seamDID             = "did-durable"
	seamSubmitted       = "genesis-submitted"
	seamUpdateSigned    = "update-signed"
	seamUpdateSubmitted = "update-submitted"
	seamNextKey         = "next-key-durable"
	seamNextConfirmed   = "next-key-confirmed"
	seamNextPromoted    = "next-key-promoted"
)

func (cfg *Config) seam(name string) {
	if cfg.Seam != nil {
		cfg.Seam(name)
	}
}
