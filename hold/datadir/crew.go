package datadir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/crew"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
)

// CrewChange is what shall become of a member of the crew: added or changed, or removed. Empty fields are left as they are; a new member
// may read and write.
type CrewChange = crew.Change

const (
	crewWait = 30 * time.Second       // for a running hold to have made a change; it begins within a second
	crewPoll = 100 * time.Millisecond // between looks at how far it is
)

// ReadCrew returns the records of the crew in the order of their keys, also beside a running server. Records that can't be read as such
// are passed over.
func ReadCrew(ctx context.Context, cfg Config) (_ []atcr.Crew, err error) {
	o, err := ReadRepo(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	records, err := crewRecords(ctx, o.Repo)
	if err != nil {
		return nil, err
	}
	members := []atcr.Crew{}
	for _, rec := range records {
		var m atcr.Crew
		if js, err := rec.JSON(); err == nil && json.Unmarshal(js, &m) == nil && m.Member != "" {
			members = append(members, m)
		}
	}
	return members, nil
}

// ChangeCrew changes one member and returns what was done: added, changed, unchanged, removed, or absent for one who was no member. It
// writes the repository itself where it may. Otherwise the running server does it: the change lies in the folder, durably, until the server
// has seen it. When the server does not within 30 seconds, or ctx ends, the change is taken back.
func ChangeCrew(ctx context.Context, cfg Config, c CrewChange) (did string, err error) {
	if err := c.Check(); err != nil {
		return "", err
	}
	if err := cfg.fill(); err != nil {
		return "", err
	}
	did, err = changeCrew(ctx, cfg, c)
	var busy *durable.LockedError
	if !errors.As(err, &busy) {
		return did, err
	}
	name, err := crew.Ask(cfg.Dir, c)
	if err != nil {
		return "", fmt.Errorf("ask the running hold to change its crew: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, crewWait)
	defer stop()
	for {
		out, ok, err := crew.Answered(cfg.Dir, name)
		switch {
		case err != nil:
			return "", errors.Join(err, crew.TakeBack(cfg.Dir, name))
		case ok && out.Error != "":
			return "", errors.New(out.Error)
		case ok:
			return out.Did, nil
		}
		did, err := changeCrew(ctx, cfg, c) // it may have been stopped meanwhile
		if err == nil || !errors.As(err, &busy) && ctx.Err() == nil {
			return did, errors.Join(err, crew.TakeBack(cfg.Dir, name))
		}
		select {
		case <-ctx.Done():
			back := crew.TakeBack(cfg.Dir, name)
			if out, ok, err := crew.Answered(cfg.Dir, name); ok && err == nil && out.Error == "" { // at the last moment
				return out.Did, nil
			}
			err := fmt.Errorf("the running hold (process %d) has not changed its crew; its log may say why. Nothing waits: %w", busy.PID,
				ctx.Err())
			return "", errors.Join(err, back)
		case <-time.After(crewPoll):
		}
	}
}

// changeCrew writes the repository. What a command that was killed asked of a hold before is not to undo it.
func changeCrew(ctx context.Context, cfg Config, c CrewChange) (did string, err error) {
	o, err := OpenRepo(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	for try := 0; ; try++ {
		records, err := crewRecords(ctx, o.Repo)
		if err != nil {
			return "", err
		}
		ws, did, err := crew.Writes(records, c, cfg.Clock())
		if err == nil && len(ws) > 0 {
			_, err = o.Repo.Apply(ctx, ws)
		}
		if err == nil {
			return did, crew.Supersede(cfg.Dir, c.Member)
		}
		raced := errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrInvalidSwap) || errors.Is(err, repo.ErrNotFound)
		if !raced || try == 5 {
			return did, err
		}
	}
}

func crewRecords(ctx context.Context, from *repo.Repo) (all []repo.Record, err error) {
	for rec, err := range from.List(ctx, atcr.NSIDCrew, "", false) {
		if err != nil {
			return nil, err
		}
		all = append(all, rec)
	}
	return all, nil
}
