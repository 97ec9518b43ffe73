// Package durable changes files so that the change is whole or absent after a crash, and stays once the call returned.
//
// A file is written beside its name, fsynced, renamed over the name, and then the folder is fsynced: without the last
// step a power cut can take the name back. The steps in order:
//
//	open(dir/.tmp-…, O_CREAT|O_EXCL) write fsync close
//	rename(dir/.tmp-…, dir/name)
//	open(dir) fsync close
//
// A failed [WriteFile] leaves the old file as it was and no temporary file. A crash may leave a file named
// [TempPrefix]…; readers of a folder skip such names, and [RemoveTemp] deletes them at start.
//
// [LockDir] keeps a second process out of a folder. All functions are safe for concurrent use.
package durable
