package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RemoveStaleUploads cancels the uploads whose last byte came before the given time and returns how many. Uploads that
// someone has open are left alone. It goes on past an upload that can't be cancelled and returns those errors joined.
func RemoveStaleUploads(ctx context.Context, s Store, before time.Time) (int, error) {
	var n int
	var errs []error
	for info, err := range s.Uploads(ctx, "") {
		if err != nil {
			return n, errors.Join(append(errs, fmt.Errorf("list uploads: %w", err))...)
		}
		if !info.ModTime.Before(before) {
			continue
		}
		switch err := cancelUpload(ctx, s, info.ID); {
		case err == nil:
			n++
		case errors.Is(err, ErrUploadBusy), errors.Is(err, ErrUploadUnknown):
		default:
			errs = append(errs, fmt.Errorf("cancel upload: %w", err))
		}
	}
	return n, errors.Join(errs...)
}

func cancelUpload(ctx context.Context, s Store, id string) error {
	up, err := s.Resume(ctx, id)
	if err != nil {
		return err
	}
	if err := up.Cancel(ctx); err != nil {
		up.Close()
		return err
	}
	return nil
}
