package resources

import (
	"context"
	"log/slog"
	"time"
)

// tellEvery is how often the mesh is looked at for what should be told, at most:
// endpoints come and go all the time.
const tellEvery = 10 * time.Second

// maxTold bounds how many conflicts are logged one by one.
const maxTold = 20

// tell logs what should be known of networks and services, each thing once until it
// is over, until ctx ends.
func (s *Source) tell(ctx context.Context) {
	t := teller{log: s.cfg.Logger, told: map[string]bool{}}
	for {
		changed := s.changesForReport()
		report := s.Report()
		s.reported.Store(report)
		t.tell(report)

		pause := time.NewTimer(tellEvery)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		if !changed(ctx) {
			return
		}
	}
}

// changesForReport returns what waits until a table has changed that a report is
// made of; it is false when ctx ends.
func (s *Source) changesForReport() (wait func(ctx context.Context) bool) {
	txn := s.store.Read()
	_, services := s.store.Services.AllWatch(txn)
	_, endpoints := s.store.Endpoints.AllWatch(txn)
	_, entrances := s.store.Entrances.AllWatch(txn)
	_, names := s.store.Names.AllWatch(txn)
	_, networks := s.store.Networks.AllWatch(txn)
	_, clusters := s.store.Clusters.AllWatch(txn)
	_, meshes := s.store.Meshes.AllWatch(txn)
	_, exports := s.store.Exports.AllWatch(txn)
	return func(ctx context.Context) bool {
		select {
		case <-ctx.Done():
			return false
		case <-services:
		case <-endpoints:
		case <-entrances:
		case <-names:
		case <-networks:
		case <-clusters:
		case <-meshes:
		case <-exports:
		}
		return true
	}
}

// LastReport is the report that was told of last; nil before the first.
func (s *Source) LastReport() *Report { return s.reported.Load() }

// teller says each thing once, and again when it has been over.
type teller struct {
	log  *slog.Logger
	told map[string]bool
}

func (t *teller) tell(r *Report) {
	now := map[string]bool{}
	for _, u := range r.Unreached {
		text := u.String()
		now[text] = true
		if !t.told[text] {
			t.log.Warn("clients of other networks are not led to endpoints", "problem", text, "endpoints", u.Endpoints)
		}
	}

	news := 0
	for _, c := range r.Conflicts {
		text := c.Host + ": " + c.Problem
		now[text] = true
		if t.told[text] {
			continue
		}
		if news++; news <= maxTold {
			t.log.Warn("clusters say different things of one service; in each, its own Service counts", "host", c.Host, "problem", c.Problem)
		}
	}
	if news > maxTold {
		t.log.Warn("there are more services of which clusters say different things", "more", news-maxTold)
	}
	t.told = now
}
