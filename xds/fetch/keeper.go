package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/xds"
)

// Keep says where a client keeps what is in force, so that a proxy that restarts
// while discovery is away has it again.
type Keep struct {
	// File is written whole each time and then put in the place of the one
	// before. It belongs into a directory that nobody else can write.
	File string
	// Owner is for whom the configuration was made. What another has left is not
	// taken.
	Owner string
	// Until is how long what is in force now may be used: zero when it may not,
	// for instance because it is not complete yet. It may be called from any
	// goroutine.
	Until func() time.Time
	// Every is the least time from a change to its being in the file, and
	// between two writes; 3 s when zero.
	Every time.Duration
}

const (
	// keepEvery is the default of Keep.Every.
	keepEvery = 3 * time.Second
	// keepRenewed is how often it is looked whether the time has moved up to
	// which the file may be used.
	keepRenewed = time.Minute
	// keepShare bounds what is spent on writing in a mesh that changes all the
	// time: a hundredth of the time.
	keepShare = 100
)

// keeper writes the file of a client, and reads it when the client starts.
type keeper struct {
	Keep
	state     *state
	connected func() bool
	log       *slog.Logger

	// Of run's goroutine only:
	until time.Time     // what the file says
	pause time.Duration // the least time before the next write
}

func newKeeper(c *Client, s *state) *keeper {
	k := &keeper{
		Keep: *c.cfg.Keep, state: s, log: c.cfg.Logger,
		connected: func() bool { return c.Status().Connected },
	}
	if k.Every <= 0 {
		k.Every = keepEvery
	}
	k.pause = k.Every
	return k
}

// restore puts in force what the file holds, as if discovery had sent it. A file
// that is of no use goes, with one line in the log.
func (c *Client) restore(s *state) {
	k := c.cfg.Keep
	file, err := os.Open(k.File)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var head *keptHead
	var byType map[string][]Resource
	if err == nil {
		defer func() { _ = file.Close() }() // it was only read
		head, byType, err = readKept(file, k.Owner, time.Now())
	}
	if err != nil {
		c.cfg.Logger.Warn("kept configuration is of no use", "file", k.File, "error", err)
		_ = os.Remove(k.File) // the next one takes its place anyway
		return
	}

	total := 0
	for _, t := range c.types() {
		if !slices.Contains(head.Types, t) {
			continue
		}
		total += c.restoreType(s, t, byType[t])
	}
	// The file is there already, and discovery will tell what has changed.
	s.saved(s.snapshot())
	select {
	case <-s.changed:
	default:
	}
	c.cfg.Logger.Info("took up the kept configuration", "file", k.File, "resources", total, "from", head.At, "until", head.Until)
}

// restoreType puts the resources of a type in force, and tells how many there are.
func (c *Client) restoreType(s *state, typeURL string, kept []Resource) int {
	if named(typeURL) {
		wanted := set(c.cfg.Handler.Wanted(typeURL))
		kept = slices.DeleteFunc(kept, func(r Resource) bool { return !wanted[xds.SubscribedAs(typeURL, r.Name)] })
	}
	err := c.cfg.Handler.Apply(typeURL, kept, nil)
	if err != nil {
		c.cfg.Logger.Error("kept configuration refused", "type", typeURL, "error", err)
	}
	s.record(typeURL, kept, nil, err)
	return len(s.has(typeURL))
}

// run writes the file after changes until ctx ends, and then for a last time when
// there has been one.
func (k *keeper) run(ctx context.Context) {
	renewed := time.NewTicker(keepRenewed)
	defer renewed.Stop()

	dirty := false
	wait := time.NewTimer(0)
	<-wait.C
	defer wait.Stop()
	for {
		select {
		case <-k.state.changed:
			if !dirty {
				dirty = true
				wait.Reset(k.pause)
			}
			continue
		case <-renewed.C:
			if dirty || !k.connected() || k.Until().Equal(k.until) {
				continue
			}
		case <-wait.C:
		case <-ctx.Done():
			if dirty {
				_, _ = k.save() // told of before, when it fails again
			}
			return
		}

		again, end := k.save()
		if end {
			return
		}
		if dirty = again > 0; dirty {
			wait.Reset(again)
		}
	}
}

// save writes the file. It gives the time after which to try again, and whether
// there is no sense in that.
func (k *keeper) save() (again time.Duration, end bool) {
	until := k.Until()
	if until.IsZero() {
		return k.Every, false
	}

	start := time.Now()
	snap := k.state.snapshot()
	err := k.write(snap, until)
	took := time.Since(start)
	switch {
	case err == nil:
		k.until = until
		k.state.saved(snap)
		k.log.Debug("kept the configuration", "resources", len(snap.versions), "took", took)
		k.pause = max(k.Every, keepShare*took)
		return 0, false
	case errors.Is(err, errTooMuch), errors.Is(err, errMissing):
		k.log.Warn("the configuration is not kept for a restart", "error", err)
		k.state.keepNothing()
		_ = os.Remove(k.File) // it holds what is not in force any more
		return 0, true
	default:
		k.log.Warn("cannot keep the configuration for a restart", "error", err)
		return keepRenewed, false
	}
}

// errMissing is what a file lacks that was damaged by somebody else.
var errMissing = errors.New("a part of it is neither in the file nor at hand")

// write makes a new file of the old one and of what has come since.
func (k *keeper) write(snap snapshot, until time.Time) (err error) {
	// Written beside and renamed: a process that dies here leaves the old file.
	tmp := k.File + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp) // it takes memory for nothing
		}
	}()

	head := keptHead{Format: keptFormat, Owner: k.Owner, At: time.Now(), Until: until, Types: snap.types, Resources: len(snap.versions)}
	err = errors.Join(k.fill(file, head, snap), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp, k.File)
}

// fill writes the resources of a snapshot: what has come since the last file was
// written, and the rest out of that.
func (k *keeper) fill(file io.Writer, head keptHead, snap snapshot) error {
	out, err := newKeptWriter(file, head)
	if err != nil {
		return err
	}
	for _, r := range snap.unsaved {
		if err := out.add(r); err != nil {
			return err
		}
	}
	if out.left > 0 {
		if err := k.copyOld(out, snap); err != nil {
			return err
		}
	}
	if out.left > 0 {
		return fmt.Errorf("%w: %d resources", errMissing, out.left)
	}
	return out.close()
}

// copyOld adds what is in force still out of the file that is there.
func (k *keeper) copyOld(out *keptWriter, snap snapshot) error {
	old, err := os.Open(k.File)
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	defer func() { _ = old.Close() }() // it was only read

	in, err := newKeptReader(old)
	for err == nil {
		var r record
		if r, err = in.next(); err != nil {
			break
		}
		version, inForce := snap.versions[r.key]
		if _, newer := snap.unsaved[r.key]; !inForce || newer || version != r.version {
			continue
		}
		if err := out.copy(r.raw); err != nil {
			return err
		}
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}
