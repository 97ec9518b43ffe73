// Package backup puts a service's identity into one encrypted file, and brings it back on another machine.
//
// The file is encrypted by age (age-encryption.org/v1) and holds the DID, the signing and rotation keys, keys of a rotation that is
// not finished, and for a did:plc its genesis operation and log. With it and a copy of the service's databases a
// new machine is the same service.
//
//	err := backup.Export(w, cfg, recipient)      // age.NewScryptRecipient, age.ParseX25519Recipient, …
//	did, err := backup.Import(r, cfg, identity)  // into an empty data folder
//
// Import writes keys first and did.txt last, each durably; broken off, it is called again. It never writes over another identity.
package backup
