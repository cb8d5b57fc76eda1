package model

import (
	"encoding/json"
	"reflect"

	"github.com/cilium/statedb"
)

// table is what can be done with the rows of one cluster in any table, whatever
// its rows are.
type table interface {
	statedb.TableMeta
	// drop deletes the rows of a cluster.
	drop(txn WriteTxn, c ClusterID)
	// replace makes the rows of a cluster those that the same table of another
	// Store has. Rows that stay the same keep their identity.
	replace(txn WriteTxn, c ClusterID, source table, read ReadTxn)
	// encode writes the rows of a cluster as a JSON list, and decode inserts
	// what it wrote.
	encode(read ReadTxn, c ClusterID) (json.RawMessage, error)
	decode(txn WriteTxn, c ClusterID, raw json.RawMessage) error
}

// Drop deletes every row of a cluster, in one change.
func (s *Store) Drop(c ClusterID) {
	txn := s.Write()
	defer txn.Abort()
	for _, t := range s.tables {
		t.drop(txn, c)
	}
	txn.Commit()
}

// Replace makes the rows of a cluster those that another Store has of it, in one
// change: a reader of them sees the old ones or the new ones. What is equal in
// both is not touched, so nothing that was made from it is made again.
func (s *Store) Replace(c ClusterID, from *Store) {
	read := from.Read()
	txn := s.Write()
	defer txn.Abort()
	for i, t := range s.tables {
		t.replace(txn, c, from.tables[i], read)
	}
	txn.Commit()
}

// ChangeCluster changes the row of the cluster itself, which is made when there
// is none. change must not keep the row.
func (s *Store) ChangeCluster(c ClusterID, change func(*Cluster)) {
	txn := s.Write()
	defer txn.Abort()
	s.ChangeClusterIn(txn, c, change)
	txn.Commit()
}

// ChangeClusterIn is ChangeCluster within a change of more.
func (s *Store) ChangeClusterIn(txn WriteTxn, c ClusterID, change func(*Cluster)) {
	row := Cluster{ID: c}
	old, _, exists := s.Clusters.Get(txn, s.Clusters.ByKey(string(c)))
	if exists {
		row = *old
	}
	change(&row)
	if exists && reflect.DeepEqual(&row, old) {
		return
	}
	mustWrite(s.Clusters.Insert(txn, &row))
}

func (t *Table[R]) drop(txn WriteTxn, c ClusterID) {
	for _, r := range t.of(txn, c) {
		mustWrite(t.Delete(txn, r))
	}
}

func (t *Table[R]) replace(txn WriteTxn, c ClusterID, source table, read ReadTxn) {
	from := source.(*Table[R])
	for _, old := range t.of(txn, c) {
		if _, _, stays := from.Get(read, from.ByKey(old.Key())); !stays {
			mustWrite(t.Delete(txn, old))
		}
	}

	for _, r := range from.of(read, c) {
		t.Put(txn, r)
	}
}

// of are the rows of a cluster. Keys need not begin with the cluster, so all
// rows are looked at; clusters come and go rarely.
func (t *Table[R]) of(txn ReadTxn, c ClusterID) (rows []R) {
	for r := range t.All(txn) {
		if r.ReadFrom() == c {
			rows = append(rows, r)
		}
	}
	return rows
}
