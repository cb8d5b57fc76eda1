package resources

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// answer is the last answer that a view gave for a set of names of load
// assignments. With it, a change costs what changed, not what there is.
type answer struct {
	names   []string
	catalog *catalog
	// seen is how far the hub's log of changed endpoints is worked in.
	seen uint64
	// byHost finds the names that a host's endpoints are in.
	byHost map[string][]string
	// res is never written once it was given away: a change makes a copy.
	res map[string]*serve.Resource
}

// maxAnswers bounds what a view keeps: streams of a view subscribe alike, but
// for those that are on their way from one set of names to another.
const maxAnswers = 4

// answerFor finds the answer for a set of names, known by its memory: the
// server asks with the same slice each time. The Source's lock is held.
func (v *view) answerFor(names []string) *answer {
	for _, a := range v.answers {
		if len(a.names) == len(names) && (len(names) == 0 || &a.names[0] == &names[0]) {
			return a
		}
	}
	return nil
}

// assignments answers for load assignments. log is the hub's log as it was when
// the channel of the type was taken.
func (v *view) assignments(txn model.ReadTxn, sc *scope, names []string, log changeLog) map[string]*serve.Resource {
	if names == nil {
		return v.pick(endpointNames(sc), func(name string) *serve.Resource { return v.source.assignment(txn, sc, v.from, name) })
	}
	a := v.answerFor(names)
	var changed []string
	known := false
	if a != nil && a.catalog == sc.catalog {
		changed, known = log.since(a.seen)
	}
	if !known {
		return v.answerAnew(txn, sc, names, log, a)
	}
	a.seen = log.last
	var fresh map[string]*serve.Resource
	for _, h := range changed {
		for _, name := range a.byHost[h] {
			r := v.source.assignment(txn, sc, v.from, name)
			if r == a.res[name] {
				continue
			}
			if fresh == nil {
				fresh = maps.Clone(a.res)
			}
			if r == nil {
				delete(fresh, name)
			} else {
				fresh[name] = r
			}
		}
	}
	if fresh != nil {
		a.res = fresh
	}
	return a.res
}

// answerAnew builds the answer from nothing and keeps it in the place of old.
func (v *view) answerAnew(txn model.ReadTxn, sc *scope, names []string, log changeLog, old *answer) map[string]*serve.Resource {
	a := old
	if a == nil {
		a = &answer{names: names, byHost: make(map[string][]string, len(names))}
		for _, name := range names {
			if _, _, h, ok := parseClusterName(name); ok {
				a.byHost[h] = append(a.byHost[h], name)
			}
		}
		v.answers = append(v.answers, a)
		if len(v.answers) > maxAnswers {
			v.answers = v.answers[1:]
		}
	}
	a.catalog, a.seen = sc.catalog, log.last
	a.res = v.pick(names, func(name string) *serve.Resource { return v.source.assignment(txn, sc, v.from, name) })
	return a.res
}

// changeLog lists the hosts whose endpoints changed, the newest last. It is a
// value: entries are added by making another.
type changeLog struct {
	// last is the number of the newest entry; numbers count from 1.
	last  uint64
	hosts []string
}

// maxLog is how many entries are kept. A reader that is further behind starts
// from nothing.
const maxLog = 4096

// add returns the log with the hosts at its end.
func (l changeLog) add(hosts []string) changeLog {
	if len(hosts) == 0 {
		return l
	}
	l.last += uint64(len(hosts))
	l.hosts = append(l.hosts, hosts...)
	if len(l.hosts) > 2*maxLog {
		// A new array: readers may hold the old one.
		l.hosts = append([]string(nil), l.hosts[len(l.hosts)-maxLog:]...)
	}
	return l
}

// since lists the hosts that changed after an entry; ok is false when the log
// does not reach back so far.
func (l changeLog) since(seen uint64) (hosts []string, ok bool) {
	n := l.last - seen
	if n > uint64(len(l.hosts)) {
		return nil, false
	}
	return l.hosts[uint64(len(l.hosts))-n:], true
}
