// Package plclog is what packages identity and identity/plc share: the log of a did:plc and its directory, the key files and
// other files of a service's data folder, and key rotations from their first step to their last.
//
// A [Folder] is the start of most things. [Folder.Create], [Folder.Adopt] and [Folder.CompleteRotations] keep this order whatever
// crashes: a key is durable before an operation that names it is submitted, and the old one stays until the directory names the new one.
package plclog
