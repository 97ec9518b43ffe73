// Package plc operates the did:plc of a service: it changes keys, address and handle in the directory, undoes what a stolen
// key did, gives a DID up, and shows its history. Package identity makes the DID and keeps it current; this package is for
// the person who looks after it.
//
// A [Manager] is made once from the identity and the configuration that it was loaded with:
//
//	id, err := identity.Load(cfg)
//	m, err := plc.NewManager(id, cfg)
//	plan, err := m.Rotate(ctx, plc.RotateOptions{DryRun: true}) // shows what would change, and changes nothing
//	plan, err = m.Rotate(ctx, plc.RotateOptions{})              // a new signing key
//	id = m.Identity()                                           // the identity that has it
//
// Each change is one operation in the log of the DID, signed by the service's rotation key. [Manager.Rotate],
// [Manager.AddRecoveryKey], [Manager.Move], [Manager.Recover] and [Manager.Tombstone] read the uncached log, verify it,
// hold it against the log as it was seen last, and submit one operation that leaves all else as it is. When somebody else
// changes the DID at the same moment the log is read again. As a dry run they do all of this but the submission, keep
// nothing but the log that they read, and return the same [Plan]. A plan never holds a signature, so that it can be shown,
// logged and sent around.
//
// # Keys that are kept elsewhere
//
// Where no rotation key is at hand the same calls with Unsigned return the plan without looking for one: [Plan.Operation] is to be
// signed and submitted where the key is. [Manager.Rotate] then keeps the new key, in a file with the suffix .offered, and
// Rotate, [Manager.CompleteRotations] and identity.LoadOrCreateDID take it into use once the directory names it.
//
// # Rotation keys
//
// The log lists the keys that may change the DID, the highest first. Within 72 hours ([RecoveryWindow]) a higher key can
// undo what a lower one signed ([Manager.Revocable], [Manager.Recover]): so keep one off the machine and put it above the
// service's own ([Manager.AddRecoveryKey]).
//
// # While the service runs
//
// The process that runs as the identity alone knows from which moment on it signs with a new key. Beside it, another
// process calls [Manager.RequestRotation]: it makes the new key durable and asks nobody. The running process looks for
// requests ([Manager.RotationRequested], microseconds) and calls [Manager.CompleteRotations]; hold.Server does both.
// [Manager.AddRecoveryKey] can be called beside it, too. Stop it for the other changes: it keeps the directory in line with
// itself, and would move back.
//
// # After a crash
//
// A rotation makes the new key durable (a file with the suffix .next) before the directory is asked, and gives it the old
// one's name when the directory shows it; the old one stays beside it (.old). Broken off at any point, it is finished by
// the next Rotate or CompleteRotations, or by identity.LoadOrCreateDID.
//
// # did:web
//
// A did:web has no directory: its document is what the service serves. [Manager.Rotate] takes its signing key, too, and
// [Manager.Describe] shows it; all else is [ErrNotPLC].
//
// Errors are those of package identity, compared by errors.Is: identity.ErrPLCUnavailable and the others.
package plc
