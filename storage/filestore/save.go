package filestore

import (
	"errors"
)

// errSync marks a failed fsync of bytes: the kernel may have dropped them, so nothing may be built on them.
var errSync = errors.New("bytes could not be made durable; resume the upload")

// saveResult is what became of a save.
type saveResult struct {
	offset int64
	sync   error // fatal for the upload
	err    error // of the state; the bytes are durable
}

// state is the hash as it stands, for the next slot.
func (u *upload) state() (state, error) { return u.stateAt(u.size) }

func (u *upload) stateAt(offset int64) (state, error) {
	sum, err := marshalHash(u.h)
	if err != nil {
		return state{}, err
	}
	u.seq++
	return state{seq: u.seq, offset: offset, alg: u.alg, sum: sum}, nil
}

// startSave saves the state in another goroutine, unless that is still busy with an earlier one.
func (u *upload) startSave(offset int64) {
	if u.saving != nil {
		select {
		case <-u.saving:
			u.take()
		default:
			return
		}
	}
	st, err := u.stateAt(offset)
	if err != nil {
		return
	}
	u.planned = offset
	done := make(chan struct{})
	u.saving = done
	go func() {
		defer close(done)
		u.result = u.save(st)
	}()
}

// save makes the bytes durable, then the state.
func (u *upload) save(st state) saveResult {
	if err := u.s.disk.sync(u.f); err != nil {
		return saveResult{sync: failed("fsync upload", errors.Join(errSync, err))}
	}
	u.s.disk.at(pointBytesSynced)
	r := saveResult{offset: st.offset}
	if err := u.s.disk.writeState(u.s.state(u.id), st); err != nil {
		r.err = failed("save upload state", err)
		return r
	}
	u.s.disk.at(pointStateSaved)
	if !u.named {
		if err := u.s.disk.syncDir(u.s.uploads); err != nil {
			r.err = failed("save upload state", err)
			return r
		}
		u.named = true
	}
	return r
}

// settle waits for a save that is under way.
func (u *upload) settle() {
	if u.saving == nil {
		return
	}
	<-u.saving
	u.saving = nil
	if err := u.take(); err != nil && u.err == nil {
		u.s.log.Warn("filestore: upload state not saved", "err", err)
	}
}

// take takes over the result of a save.
func (u *upload) take() error {
	r := u.result
	u.result = saveResult{}
	if r.sync != nil {
		u.err = r.sync
		return r.sync
	}
	u.synced = max(u.synced, r.offset)
	if r.err == nil {
		u.saved, u.planned = max(u.saved, r.offset), max(u.planned, r.offset)
	}
	return r.err
}
