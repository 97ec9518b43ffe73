package filestore

import (
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/internal/durable"
)

// crashPoint names a moment at which a crash is interesting, by what is durable then.
type crashPoint string

// All crash points. A recovery that is right at each of them is right.
const (
	pointBytesWritten crashPoint = "bytes-written" // nothing; all bytes of a Commit are in the file
	pointBytesSynced  crashPoint = "bytes-synced"  // the bytes, under the upload's name
	pointStateSaved   crashPoint = "state-saved"   // bytes and hash state, perhaps not yet their names
	pointBlobNamed    crashPoint = "blob-named"    // as bytes-synced; the blob is visible but a power cut may take it back
	pointBlobDurable  crashPoint = "blob-durable"  // the blob; its hash state may still lie about
)

var crashPoints = []crashPoint{pointBytesWritten, pointBytesSynced, pointStateSaved, pointBlobNamed, pointBlobDurable}

// disk makes the changes whose order is the contract. Both hooks are nil in production.
type disk struct {
	reached func(crashPoint)
	// step is told of each change before it is made; its error is the change's.
	step func(op, path string) error
}

func (d *disk) at(p crashPoint) {
	if d.reached != nil {
		d.reached(p)
	}
}

func (d *disk) before(op, path string) error {
	if d.step == nil {
		return nil
	}
	return d.step(op, path)
}

func (d *disk) writeAt(f *os.File, p []byte, off int64) (int, error) {
	if err := d.before("write", f.Name()); err != nil {
		return 0, err
	}
	return f.WriteAt(p, off)
}

func (d *disk) sync(f *os.File) error {
	if err := d.before("fsync", f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

func (d *disk) mkdir(dir string) error {
	if err := d.before("mkdir", dir); err != nil {
		return err
	}
	return os.Mkdir(dir, dirPerm)
}

func (d *disk) rename(from, to string) error {
	if err := d.before("rename", from+" "+to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func (d *disk) syncDir(dir string) error {
	if err := d.before("fsyncdir", dir); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// makeShard makes a blob's folder and those above it. Another goroutine may have made the shard without having fsynced
// its name yet, hence the fsync in any case.
func (d *disk) makeShard(dir string) error {
	if err := durable.MkdirAll(dir, dirPerm); err != nil {
		return err
	}
	if err := d.syncDir(filepath.Dir(filepath.Dir(dir))); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(filepath.Dir(filepath.Dir(dir))))
}

// syncBlob makes durable that the blob is in its folder and the folder in its shard.
func (d *disk) syncBlob(dir string) error {
	if err := d.syncDir(dir); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(dir))
}
