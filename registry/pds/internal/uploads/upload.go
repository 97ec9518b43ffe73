package uploads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
)

// maxParts is how many parts a hold takes.
const maxParts = 10_000

// Upload is one request's use of an upload. Not safe for concurrent use.
type Upload struct {
	all   *Uploads
	actor registry.Actor
	s     *state
	ctx   context.Context // of the request: io.ReaderFrom has none
	end   bool            // committed, cancelled or closed

	closed int64 // Size at Close: afterwards the state may be another request's

	// mu is held but while a body is being read: then the timer that gives memory up may have it.
	mu      sync.Mutex
	p       *part // nil until it is needed
	reading bool
	gaveUp  error // why memory could not be kept when it was given up: its bytes are lost
}

var _ registry.Upload = (*Upload)(nil)

// ID continues the upload.
func (u *Upload) ID() string { return u.s.ID }

// Size is what the hold has acknowledged, and the tail.
func (u *Upload) Size() int64 {
	switch {
	case u.end:
		return u.closed
	case u.p != nil:
		return u.s.Size + u.p.size()
	}
	return u.s.Size + u.s.Tail
}

// Link is empty: bytes come here.
func (u *Upload) Link() string { return "" }

// ReadFrom takes all of r: whole parts go to the hold, the rest stays here, and is kept by Close.
func (u *Upload) ReadFrom(r io.Reader) (total int64, err error) {
	if u.s.gone {
		return 0, registry.ErrUploadUnknown
	}
	if err := u.all.verify(u.ctx, u.s); err != nil {
		return 0, err
	}
	// What has come is worth keeping, also when the client is gone.
	ctx := context.WithoutCancel(u.ctx)
	timer := time.AfterFunc(time.Hour, func() { u.giveUp(ctx) })
	defer timer.Stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.openPart(); err != nil {
		return 0, err
	}
	for {
		if u.p.space() == 0 {
			if err := u.makeSpace(ctx); err != nil {
				return total, u.salvage(ctx, err)
			}
		}
		n, rerr := u.readSome(r, timer)
		total += int64(n)
		if err := u.gaveUp; err != nil {
			u.gaveUp = nil
			u.lose()
			return total, err
		}
		if errors.Is(rerr, io.EOF) && u.p.size() >= minPart {
			err := u.send(ctx, "")
			if err != nil {
				err = u.salvage(ctx, err)
			}
			return total, err
		}
		if errors.Is(rerr, io.EOF) {
			return total, nil
		}
		if rerr != nil {
			return total, u.salvage(ctx, rerr)
		}
	}
}

// readSome reads once into the last chunk. While it waits the timer may take what is in memory besides.
func (u *Upload) readSome(r io.Reader, timer *time.Timer) (int, error) {
	into := u.p.last[len(u.p.last) : len(u.p.last)+u.p.space()]
	if len(u.p.chunks) > 0 {
		timer.Reset(stallAfter)
	}
	u.reading = true
	u.mu.Unlock()
	start := time.Now()
	n, err := r.Read(into)
	waited := time.Since(start)
	timer.Stop()
	u.mu.Lock()
	u.reading = false
	u.p.waited += waited
	u.p.last = u.p.last[:len(u.p.last)+n]
	return n, err
}

// giveUp is called by the timer: the sender pauses, and its memory is for others.
func (u *Upload) giveUp(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reading && u.gaveUp == nil && len(u.p.chunks) > 0 {
		if u.gaveUp = u.keep(ctx, false); u.gaveUp != nil {
			u.freeChunks()
		}
	}
}

// openPart brings the upload's tail up.
func (u *Upload) openPart() error {
	if u.p == nil {
		u.p = &part{}
		if u.s.Tail > 0 {
			if err := u.openFile(); err != nil {
				u.p = nil
				return err
			}
			u.p.onDisk = u.s.Tail
		}
	}
	if u.p.last == nil {
		u.p.last = make([]byte, 0, chunkSize)
	}
	return nil
}

func (u *Upload) openFile() (err error) {
	if u.p.file == nil {
		u.p.file, err = u.all.tails.open(u.s.ID, u.s.Tail)
	}
	return err
}

// makeSpace is called when the last chunk, or the part, is full. The chunk goes to memory, when there is a share of it for who sends
// fast enough, or to the tail file; the part goes to the hold when it is whole, or long enough and there is room nowhere.
func (u *Upload) makeSpace(ctx context.Context) error {
	if u.p.size() >= partSize {
		return u.send(ctx, "")
	}
	slow, long := u.p.slow(), u.p.size() >= minPart
	if !slow {
		if u.all.memory.Try(chunkSize, memoryOfAll, u.memoryKeys()...) {
			u.p.chunks, u.p.last = append(u.p.chunks, u.p.last), make([]byte, 0, chunkSize)
			return nil
		}
		if long {
			return u.send(ctx, "")
		}
	}
	err := u.spill(ctx, true)
	noRoom := errors.Is(err, registry.ErrNoSpace) || errors.Is(err, registry.ErrTooManyRequests) ||
		errors.Is(err, registry.ErrUnavailable)
	if long && noRoom {
		return u.send(ctx, "")
	}
	return err
}

// memoryKeys are whose share of memory is taken: also the hold's, which may take parts slowly.
func (u *Upload) memoryKeys() []string { return append(u.s.keys(), "hold "+u.s.Hold) }

// spill moves memory into the tail file: the chunks, and with all the one that is being filled.
func (u *Upload) spill(ctx context.Context, all bool) error {
	n := int64(len(u.p.chunks)) * chunkSize
	if all {
		n += int64(len(u.p.last))
	}
	if n == 0 {
		return nil
	}
	if more := u.p.onDisk + n - u.s.charged; more > 0 {
		if err := u.all.charge(ctx, u.s, more); err != nil {
			return err
		}
	}
	if err := u.openFile(); err != nil {
		return err
	}
	if err := u.all.tails.write(ctx, u.s.Actor, u.p, all); err != nil {
		return err
	}
	u.freeChunks()
	if all {
		u.p.last = make([]byte, 0, chunkSize)
	}
	return nil
}

func (u *Upload) freeChunks() {
	if n := int64(len(u.p.chunks)) * chunkSize; n > 0 {
		u.all.memory.Give(n, u.memoryKeys()...)
	}
	u.p.chunks = nil
}

// keep makes what is in memory durable, in the tail file and the upload's row: all of it, or all but the chunk that is being filled.
func (u *Upload) keep(ctx context.Context, all bool) error {
	if err := u.spill(ctx, all); err != nil {
		return err
	}
	if u.p.onDisk == u.s.Tail {
		return nil
	}
	if err := u.all.tails.sync(u.p, u.s.Tail == 0); err != nil {
		return err
	}
	before := u.s.Tail
	u.s.Tail = u.p.onDisk
	if err := u.all.save(ctx, u.s); err != nil {
		u.s.Tail = before
		return err
	}
	return u.all.o.Crash.Reach(crashpoint.TailKept)
}

// salvage keeps what it can of what came before an error, and returns that error. What can't be kept did not come.
func (u *Upload) salvage(ctx context.Context, err error) error {
	if kerr := u.keep(ctx, true); kerr != nil {
		u.all.o.Log.Info("the end of an upload could not be kept", "err", kerr)
		u.lose()
	}
	return err
}

// lose goes back to what was kept.
func (u *Upload) lose() {
	u.freeChunks()
	u.p.last, u.p.onDisk = nil, u.s.Tail
}

// send puts the part to the hold. When nobody knows whether it arrived the hold is asked.
func (u *Upload) send(ctx context.Context, d digest.Digest) error {
	s, o, p := u.s, u.all.o, u.p
	if len(s.Parts) >= maxParts {
		return registry.ErrUploadInvalid.With("the blob is too large: %d bytes came in %d pieces, and a hold takes no more",
			s.Size, maxParts)
	}
	c, err := o.Holds.As(ctx, s.Hold, u.s.who())
	if err != nil {
		return err
	}
	if err := u.initiate(ctx, c, d); err != nil {
		return err
	}
	size := p.size()
	for try := 1; ; try++ {
		work, cancel := context.WithTimeout(ctx, 10*time.Minute)
		var sent holdclient.Part
		err = holds.Patiently(u.ctx, func() (err error) {
			sent, err = c.UploadPart(work, s.UploadID, len(s.Parts)+1, size, p.reader())
			return err
		})
		cancel()
		if err == nil {
			sent.Size = size
			s.Parts, s.Size = append(s.Parts, sent), s.Size+size
			break
		}
		if now, gerr := c.GetUpload(ctx, s.UploadID); gerr == nil && now.Offset == s.Size+size {
			s.Parts, s.Size = now.Parts, now.Offset
			break
		}
		if !errors.Is(err, holdclient.ErrUnavailable) || try == partTries {
			s.sure = false
			return holds.Error(s.Hold, err)
		}
		if err := background.Pause(ctx, time.Duration(try)*100*time.Millisecond); err != nil {
			return err
		}
	}
	return u.sent(ctx)
}

// sent begins the next part, once the row says that the hold has this one.
func (u *Upload) sent(ctx context.Context) error {
	s, p := u.s, u.p
	u.all.memory.Give(int64(len(p.chunks))*chunkSize, u.memoryKeys()...)
	u.p = &part{file: p.file, last: make([]byte, 0, chunkSize)}
	s.Tail = 0
	if s.stored {
		if err := u.all.save(ctx, s); err != nil {
			return err
		}
	}
	if p.onDisk > 0 {
		if err := p.file.Truncate(0); err != nil {
			return fmt.Errorf("empty the tail of an upload: %w", err)
		}
	}
	u.all.tails.shares.Give(s.charged, s.keys()...)
	s.charged = 0
	return u.all.o.Crash.Reach(crashpoint.PartAcknowledged)
}

// initiate begins the upload at the hold, once.
func (u *Upload) initiate(ctx context.Context, c *holdclient.Client, d digest.Digest) error {
	if u.s.UploadID != "" {
		return nil
	}
	if d == "" { // not known yet: a placeholder that is nobody's blob
		d = digest.FromString(u.s.ID)
	}
	return holds.Error(u.s.Hold, holds.Patiently(u.ctx, func() (err error) {
		u.s.UploadID, err = c.InitiateUpload(ctx, d)
		return err
	}))
}

// Commit has the hold verify and keep the blob.
func (u *Upload) Commit(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, o := u.s, u.all.o
	if err := o.Holds.EnsureWriter(ctx, u.actor, s.Hold); err != nil {
		return ocispec.Descriptor{}, err
	}
	c, err := o.Holds.As(ctx, s.Hold, u.s.who())
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if s.gone {
		// It may have been completed before this server, or the answer, got lost.
		err = holdclient.ErrInvalidUpload
	} else {
		err = u.complete(ctx, c, d)
	}
	if errors.Is(err, holdclient.ErrUnavailable) || errors.Is(err, holdclient.ErrInvalidUpload) {
		if size, serr := c.StatBlob(ctx, s.Owner, d); serr == nil && size == s.Size+s.Tail {
			err = nil
		} else if errors.Is(err, holdclient.ErrUnavailable) {
			s.sure = false
		}
	}
	if errors.Is(err, holdclient.ErrInvalidUpload) {
		_ = u.all.forget(ctx, s) // nothing comes of it; what fails here runs out
		u.over()
	}
	if err != nil {
		return ocispec.Descriptor{}, holds.Error(s.Hold, err)
	}
	if err := o.Crash.Reach(crashpoint.UploadCompleted); err != nil {
		return ocispec.Descriptor{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	size := s.Size + s.Tail
	if err := o.Landed(ctx, s.Target, d, size); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := u.all.forget(ctx, s); err != nil {
		o.Log.Warn("a finished upload stays in the table until it runs out", "err", err)
	}
	u.over()
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
}

// complete sends what is left, and ends the upload at the hold.
func (u *Upload) complete(ctx context.Context, c *holdclient.Client, d digest.Digest) error {
	if err := u.openPart(); err != nil {
		return err
	}
	if u.p.size() > 0 || len(u.s.Parts) == 0 { // an empty blob is one empty part
		if err := u.send(ctx, d); err != nil {
			return err
		}
	}
	ctx = context.WithoutCancel(ctx) // the client of holds limits its time
	return holds.Patiently(u.ctx, func() error { return c.CompleteUpload(ctx, u.s.UploadID, d, u.s.Parts) })
}

// Cancel throws the upload away, here and at the hold.
func (u *Upload) Cancel(ctx context.Context) error {
	if u.end {
		return nil
	}
	if err := u.all.abort(ctx, u.s); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over()
	return nil
}

// Close ends the request: what came is kept. One that was to be over in this request, and isn't, has a row from now on.
func (u *Upload) Close() error {
	if u.end {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	ctx := context.WithoutCancel(u.ctx)
	var err error
	if u.p != nil {
		if err = u.keep(ctx, true); err != nil {
			u.lose()
		}
	}
	if err == nil && !u.s.stored {
		err = u.all.save(ctx, u.s)
	}
	u.over()
	u.all.free(u.s)
	return err
}

// over lets go of what the request has.
func (u *Upload) over() {
	u.closed = u.Size()
	u.end = true
	if u.p == nil {
		return
	}
	u.freeChunks()
	if u.p.file != nil {
		_ = u.p.file.Close() // what counts was synced
		if u.s.Tail == 0 {
			u.all.removeTail(u.s.ID)
		}
	}
	u.p = nil
	u.all.uncharge(u.s)
}
