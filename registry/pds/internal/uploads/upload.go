package uploads

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/background"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
)

// Upload is one request's use of an upload. Not safe for concurrent use.
type Upload struct {
	all   *Uploads
	actor registry.Actor
	s     *state
	ctx   context.Context // of the request: io.ReaderFrom has none
	end   bool            // committed, cancelled or closed

	closed int64 // Size at Close: afterwards the state may be another request's
}

var _ registry.Upload = (*Upload)(nil)

// ID continues the upload.
func (u *Upload) ID() string { return u.s.ID }

// Size is what the hold has acknowledged.
func (u *Upload) Size() int64 {
	if u.end {
		return u.closed
	}
	return u.s.Size
}

// Link is empty: bytes come here.
func (u *Upload) Link() string { return "" }

// ReadFrom sends all of r to the hold, in parts.
func (u *Upload) ReadFrom(r io.Reader) (int64, error) {
	if u.s.gone {
		return 0, registry.ErrUploadUnknown
	}
	if err := u.all.verify(u.ctx, u.s); err != nil {
		return 0, err
	}
	var total int64
	for {
		buf, rerr := fill(u.ctx, u.all.buffers, r)
		n := buf.size()
		if n > 0 {
			// What has come is worth keeping, also when the client is gone.
			if err := u.send(context.WithoutCancel(u.ctx), buf); err != nil {
				buf.free()
				return total, err
			}
			total += n
		}
		buf.free()
		if errors.Is(rerr, io.EOF) {
			return total, nil
		}
		if rerr != nil {
			return total, rerr
		}
	}
}

// send puts one part to the hold. When nobody knows whether it arrived the hold is asked.
func (u *Upload) send(ctx context.Context, buf *buffer) error {
	s, o := u.s, u.all.o
	c, err := o.Holds.As(ctx, s.Hold, s.Session)
	if err != nil {
		return err
	}
	if err := u.initiate(ctx, c, ""); err != nil {
		return err
	}
	size := buf.size()
	for try := 1; ; try++ {
		work, cancel := context.WithTimeout(ctx, 10*time.Minute)
		var part holdclient.Part
		part, err = c.UploadPart(work, s.UploadID, len(s.Parts)+1, size, buf.reader())
		cancel()
		if err == nil {
			part.Size = size
			s.Parts, s.Size = append(s.Parts, part), s.Size+size
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
	if s.stored {
		if err := u.all.save(ctx, s); err != nil {
			return err
		}
	}
	return o.Crash.Reach(crashpoint.PartAcknowledged)
}

// initiate begins the upload at the hold, once.
func (u *Upload) initiate(ctx context.Context, c *holdclient.Client, d digest.Digest) error {
	if u.s.UploadID != "" {
		return nil
	}
	if d == "" { // not known yet: a placeholder that is nobody's blob
		d = digest.FromString(u.s.ID)
	}
	id, err := c.InitiateUpload(ctx, d)
	if err != nil {
		return holds.Error(u.s.Hold, err)
	}
	u.s.UploadID = id
	if u.s.stored {
		return u.all.save(ctx, u.s)
	}
	return nil
}

// Commit has the hold verify and keep the blob.
func (u *Upload) Commit(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	s, o := u.s, u.all.o
	if err := o.Holds.EnsureWriter(ctx, u.actor, s.Hold); err != nil {
		return ocispec.Descriptor{}, err
	}
	c, err := o.Holds.As(ctx, s.Hold, s.Session)
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
		if size, serr := c.StatBlob(ctx, s.Owner, d); serr == nil && size == s.Size {
			err = nil
		} else if errors.Is(err, holdclient.ErrUnavailable) {
			s.sure = false
		}
	}
	if errors.Is(err, holdclient.ErrInvalidUpload) {
		_ = u.all.forget(ctx, s) // nothing comes of it; what fails here runs out
		u.end, u.closed = true, s.Size
	}
	if err != nil {
		return ocispec.Descriptor{}, holds.Error(s.Hold, err)
	}
	if err := o.Crash.Reach(crashpoint.UploadCompleted); err != nil {
		return ocispec.Descriptor{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := o.Landed(ctx, s.Target, d, s.Size); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := u.all.forget(ctx, s); err != nil {
		o.Log.Warn("a finished upload stays in the table until it runs out", "err", err)
	}
	u.end, u.closed = true, s.Size
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: s.Size}, nil
}

func (u *Upload) complete(ctx context.Context, c *holdclient.Client, d digest.Digest) error {
	if err := u.initiate(ctx, c, d); err != nil {
		return err
	}
	if len(u.s.Parts) == 0 { // an empty blob
		part, err := c.UploadPart(ctx, u.s.UploadID, 1, 0, (&buffer{}).reader())
		if err != nil {
			return err
		}
		u.s.Parts = append(u.s.Parts, part)
	}
	return c.CompleteUpload(ctx, u.s.UploadID, d, u.s.Parts)
}

// Cancel throws the upload away, here and at the hold.
func (u *Upload) Cancel(ctx context.Context) error {
	if u.end {
		return nil
	}
	if err := u.all.abort(ctx, u.s); err != nil {
		return err
	}
	u.end, u.closed = true, u.s.Size
	return nil
}

// Close ends the request. One that was to be over in this request, and isn't, is kept from now on.
func (u *Upload) Close() error {
	if u.end {
		return nil
	}
	u.end, u.closed = true, u.s.Size
	var err error
	if !u.s.stored {
		err = u.all.save(context.WithoutCancel(u.ctx), u.s)
	}
	u.free()
	return err
}

func (u *Upload) free() {
	u.all.mu.Lock()
	defer u.all.mu.Unlock()
	u.s.busy = false
}
