package model

import (
	"reflect"
	"testing"
)

// fill puts a row of each cluster into every table that a Store has, whichever
// those are.
func fill(t *testing.T, s *Store, clusters ...ClusterID) {
	t.Helper()
	txn := s.Write()
	defer txn.Abort()
	for _, c := range clusters {
		for _, each := range s.tables {
			each.(interface{ insertBlank(WriteTxn, ClusterID) }).insertBlank(txn, c)
		}
	}
	txn.Commit()
}

// insertBlank inserts a row of which nothing is said but its cluster.
func (t *Table[R]) insertBlank(txn WriteTxn, c ClusterID) {
	row := reflect.New(reflect.TypeFor[R]().Elem())
	id := row.Elem().FieldByName("Cluster")
	if !id.IsValid() {
		id = row.Elem().FieldByName("ID")
	}
	id.Set(reflect.ValueOf(c))
	mustWrite(t.Insert(txn, row.Interface().(R)))
}

// TestEveryTableIsKnown: what the Store does with all tables, it does with each
// that it has.
func TestEveryTableIsKnown(t *testing.T) {
	s, err := NewStore()
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for f := range reflect.ValueOf(s).Elem().Fields() {
		if f.IsExported() {
			fields++
		}
	}
	if fields != len(s.tables) {
		t.Errorf("%d tables, of which %d are taken care of: make each with newTable", fields, len(s.tables))
	}
}

// TestDrop: of a cluster that is taken out, no row is left in any table, and no
// other cluster loses one.
func TestDrop(t *testing.T) {
	s, err := NewStore()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, "a", "b")
	s.Drop("a")

	txn := s.Read()
	for _, each := range s.tables {
		if n := each.NumObjects(txn); n != 1 {
			t.Errorf("%s: %d rows of two clusters are left after one is dropped", each.Name(), n)
		}
	}
	if _, _, ok := s.Clusters.Get(txn, s.Clusters.ByKey("b")); !ok {
		t.Error("the other cluster is gone")
	}
}

// TestReplace: what is gone goes, what is new comes, what is equal keeps its
// identity, and the rows of other clusters stay.
func TestReplace(t *testing.T) {
	s, err := NewStore()
	if err != nil {
		t.Fatal(err)
	}
	next, err := NewStore()
	if err != nil {
		t.Fatal(err)
	}
	services := func(of *Store, rows ...*Service) {
		txn := of.Write()
		defer txn.Abort()
		for _, r := range rows {
			mustWrite(of.Services.Insert(txn, r))
		}
		txn.Commit()
	}
	same := &Service{Host: "same", Cluster: "a", Selector: map[string]string{"app": "x"}}
	services(s, same, &Service{Host: "gone", Cluster: "a"}, &Service{Host: "changed", Cluster: "a"}, &Service{Host: "other", Cluster: "b"})
	services(next,
		&Service{Host: "same", Cluster: "a", Selector: map[string]string{"app": "x"}},
		&Service{Host: "changed", Cluster: "a", Headless: true},
		&Service{Host: "new", Cluster: "a"},
		&Service{Host: "not of it", Cluster: "b"})

	s.Replace("a", next)

	got := map[string]*Service{}
	for r := range s.Services.All(s.Read()) {
		got[r.Host] = r
	}
	if len(got) != 4 || got["gone"] != nil || got["other"] == nil || got["new"] == nil || got["changed"] == nil || !got["changed"].Headless {
		t.Errorf("got %v", got)
	}
	if got["same"] != same {
		t.Error("a row that is the same has another identity: all that was made from it is made again")
	}
}
