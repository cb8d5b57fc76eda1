package resources

import (
	"iter"
	"maps"

	"github.com/isthmus-mesh/isthmus/model"
)

// How the package knows whether what it built is still good. There is one way:
// everything that is built answers a question, and is built by reading through
// a reader, which notes what was read: rows, whole tables, answers to other
// questions. The answer stays good while all of that is as it was.

// question is a value that says what is to be known, and knows how to find out.
// Equal questions have one answer.
type question[V comparable] interface {
	comparable
	// build finds the answer. It may read nothing that ever changes but
	// through r. old is the answer before, the zero V at first: build gives it
	// back when the answer is still the same one, and then whoever read it
	// stays good as well.
	build(r *reader, old V) V
}

// input is something that an answer was built from.
type input interface {
	// changed is the round in which the input last became another one, at the
	// reader's round at the latest.
	changed(r *reader) uint64
}

// reader reads one snapshot of the tables. It is used by one goroutine, with the
// Source's lock held.
type reader struct {
	txn model.ReadTxn
	// round counts the readers of a Source from 1. Within its round, an answer
	// is looked into once.
	round uint64
	// building tells that an answer is being built, and inputs are what it has
	// read so far.
	building bool
	inputs   []input
}

func (r *reader) note(in input) {
	if r.building {
		r.inputs = append(r.inputs, in)
	}
}

// memo is answers by question. The zero memo is ready for use.
type memo[Q question[V], V comparable] map[Q]*answer[Q, V]

// get returns the answer to a question, which is built if it has to be.
func (m *memo[Q, V]) get(r *reader, q Q) V {
	a := (*m)[q]
	if a == nil {
		if *m == nil {
			*m = memo[Q, V]{}
		}
		a = &answer[Q, V]{question: q}
		(*m)[q] = a
	}
	return a.get(r)
}

// forget drops the answers to questions that nobody will ask any more. To ask one
// of them again costs no more than that it is built again.
func (m memo[Q, V]) forget(gone func(Q) bool) {
	maps.DeleteFunc(m, func(q Q, _ *answer[Q, V]) bool { return gone(q) })
}

// answer is the answer to one question, with what it was built from.
type answer[Q question[V], V comparable] struct {
	question Q
	value    V
	inputs   []input
	// checked is the last round in which the value was found or made good; 0
	// before the first. since is the round from which on it is the same value.
	checked, since uint64
}

// get returns the value at the reader's snapshot, and notes that it was read.
func (a *answer[Q, V]) get(r *reader) V {
	a.refresh(r)
	r.note(a)
	return a.value
}

func (a *answer[Q, V]) changed(r *reader) uint64 {
	a.refresh(r)
	return a.since
}

// refresh makes the value good.
func (a *answer[Q, V]) refresh(r *reader) {
	if a.checked == r.round {
		return
	}
	if a.checked == 0 || a.outdated(r) {
		a.rebuild(r)
	}
	a.checked = r.round
}

// outdated tells whether an input has changed. They are looked at in the order
// in which they were read: what an input is asked for may make sense only while
// those before it are the same.
func (a *answer[Q, V]) outdated(r *reader) bool {
	for _, in := range a.inputs {
		if in.changed(r) > a.checked {
			return true
		}
	}
	return false
}

func (a *answer[Q, V]) rebuild(r *reader) {
	outer, within := r.inputs, r.building
	// As a rule as much is read as the last time; few answers read more than
	// four things.
	r.inputs, r.building = make([]input, 0, max(4, len(a.inputs))), true
	value := a.question.build(r, a.value)
	a.inputs, r.inputs, r.building = r.inputs, outer, within

	if a.checked == 0 || value != a.value {
		a.value, a.since = value, r.round
	}
}

// tableRow is what rows of every table are: pointers to values that are never
// changed in place, so that equal pointers mean equal content.
type tableRow interface {
	comparable
	model.Row
}

// readRow reads the row with a primary key; nil when there is none.
func readRow[R tableRow](r *reader, t *model.Table[R], key string) R {
	in := &rowInput[R]{table: t, key: key, since: r.round}
	in.look(r.txn)
	r.note(in)
	return in.row
}

// rowInput is a row that was read, or that there was none.
type rowInput[R tableRow] struct {
	table *model.Table[R]
	key   string
	row   R
	// watch closes when the row changes. For a row that is not there it closes
	// at any change near its key, so that only the row itself tells.
	watch <-chan struct{}
	since uint64
}

func (in *rowInput[R]) look(txn model.ReadTxn) {
	in.row, _, in.watch, _ = in.table.GetWatch(txn, in.table.ByKey(in.key))
}

// changed looks at the channel alone in nearly every case, so that thousands of
// rows that did not change are passed over without a look-up. The channels of
// what a change wrote are closed a little after others can read it; hub.pass
// waits for that before it has anybody ask.
func (in *rowInput[R]) changed(r *reader) uint64 {
	select {
	case <-in.watch:
		before := in.row
		in.look(r.txn)
		if in.row != before {
			in.since = r.round
		}
	default:
	}
	return in.since
}

// readAll reads all rows of a table, in the order of their keys.
func readAll[R tableRow](r *reader, t *model.Table[R]) iter.Seq[R] {
	r.note(&tableInput[R]{table: t, revision: t.Revision(r.txn), since: r.round})
	return func(yield func(R) bool) {
		for row := range t.All(r.txn) {
			if !yield(row) {
				return
			}
		}
	}
}

// tableInput is a table of which all rows were read.
type tableInput[R tableRow] struct {
	table    *model.Table[R]
	revision uint64
	since    uint64
}

func (in *tableInput[R]) changed(r *reader) uint64 {
	if now := in.table.Revision(r.txn); now != in.revision {
		in.revision, in.since = now, r.round
	}
	return in.since
}
