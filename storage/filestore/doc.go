// Package filestore keeps blobs as files in a folder, in the layout of CNCF distribution.
//
//	DIR/[PREFIX/]docker/registry/v2/blobs/sha256/ab/abcd…/data   a blob; sha512 likewise
//	DIR/[PREFIX/]atcr/uploads/ID                                 bytes of an upload under way
//	DIR/[PREFIX/]atcr/uploads/ID.state                           where its hash stands, see below
//	DIR/[PREFIX/]atcr/uploads/.key                               the key that signs upload ids
//	DIR/[PREFIX/]atcr/uploads/.lock                              the pid of the process that has the folder
//
// So the folder of an existing registry can be opened as it is. Files with other names are left alone. One process at
// a time may open a folder; a second one gets an error that names the first's pid.
//
// # What is durable when
//
// Create touches no disk. Bytes go to the upload's file and are hashed on the way. Commit compares the digest, then:
// fsync of the file; rename to its place; fsync of the blob's folder; fsync of the folder above. Only then it returns.
// An acknowledged blob is therefore there and whole after a power cut, and a blob that was not acknowledged is whole
// or absent.
//
// A Flush is: fsync of the bytes; then the hash state into the slot of ID.state that doesn't hold the newest one;
// fsync; and once an upload, fsync of the folder. The same happens every 64 MiB, beside the writing. Uploads under
// 1 MiB are not flushed by Close: they rest in memory, and after a crash begin at offset 0. [Store.Close] flushes them.
// An id carries a MAC, so that one whose upload never got a byte still resumes after a crash, at offset 0.
//
// The folder must be on one filesystem, one that does rename and fsync as POSIX says. A failed fsync is never tried
// again on the same bytes, since the kernel may have dropped them: such an upload has to be resumed.
//
// # Speed
//
// Bodies up to 64 KiB are one read, one hash, one write. Longer ones are hashed in a goroutine while the next MiB is
// read and written, and on Linux writing to the disk is begun early, so that the fsync in the end finds little to do.
// Uploads share a bounded number of large buffers; past it they use small ones. Reads are the bare [*os.File].
package filestore
