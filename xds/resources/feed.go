package resources

import (
	"slices"

	"github.com/cilium/statedb"

	"github.com/isthmus-mesh/isthmus/model"
)

// feed is a table that the hub follows.
type feed interface {
	open(txn model.WriteTxn) error
	// pass works in the rows that changed since the last pass.
	pass(f *found)
	// changed is closed when there is something to pass.
	changed() <-chan struct{}
	close()
}

// follow makes a feed. each is called for every row that was written or deleted;
// types are those of which a resource may then be another one.
func follow[R any](t statedb.Table[R], each func(*found, R), types ...string) feed {
	return &tableFeed[R]{table: t, each: each, types: types}
}

type tableFeed[R any] struct {
	table statedb.Table[R]
	each  func(*found, R)
	types []string

	changes statedb.ChangeIterator[R] // nil until open
	watch   <-chan struct{}
}

func (t *tableFeed[R]) open(txn model.WriteTxn) (err error) {
	t.changes, err = t.table.Changes(txn)
	return err
}

// pass leaves a table alone that has not changed: most have not, and a look costs
// something. hub.pass has waited until what its snapshot shows has closed its
// channels; what comes later closes them later, and there will be another pass.
func (t *tableFeed[R]) pass(f *found) {
	select {
	case <-t.watch:
	default:
		if t.watch != nil {
			return
		}
	}
	for {
		rows, watch := t.changes.Next(f.txn)
		t.watch = watch
		n := 0
		for change := range rows {
			t.each(f, change.Object)
			n++
		}
		if n == 0 {
			// Only a turn without rows gives a channel that is open.
			return
		}
		for _, typeURL := range t.types {
			if !slices.Contains(f.types, typeURL) {
				f.types = append(f.types, typeURL)
			}
		}
	}
}

func (t *tableFeed[R]) changed() <-chan struct{} { return t.watch }

func (t *tableFeed[R]) close() {
	if t.changes != nil {
		t.changes.Close()
	}
}
