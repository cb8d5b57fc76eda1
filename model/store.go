package model

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/cilium/statedb"
	"github.com/cilium/statedb/index"
)

// ReadTxn is a consistent snapshot of all tables.
type ReadTxn = statedb.ReadTxn

// WriteTxn changes tables; nothing is seen until it is committed.
type WriteTxn = statedb.WriteTxn

// Row is what every row can do. ReadFrom is asked for so that no table can be
// forgotten when a cluster is taken out, or read anew.
type Row interface {
	Key() string
	ReadFrom() ClusterID
}

// Table holds the rows of one kind, by primary key.
type Table[R Row] struct {
	statedb.RWTable[R]
	key statedb.Index[R, string]
}

// ByKey asks for the row with the primary key.
func (t Table[R]) ByKey(k string) statedb.Query[R] { return t.key.Query(k) }

// Put inserts a row unless the same is there, and tells whether it did: rows that
// stay the same keep their identity, and nothing is rebuilt.
func (t Table[R]) Put(txn WriteTxn, r R) bool {
	if old, _, ok := t.Get(txn, t.ByKey(r.Key())); ok && reflect.DeepEqual(old, r) {
		return false
	}
	mustWrite(t.Insert(txn, r))
	return true
}

// Remove deletes the row with the key, if there is one, and tells whether there
// was.
func (t Table[R]) Remove(txn WriteTxn, key string) bool {
	old, _, ok := t.Get(txn, t.ByKey(key))
	if !ok {
		return false
	}
	mustWrite(t.Delete(txn, old))
	return true
}

// mustWrite panics on the errors of a table, which mean that the transaction
// does not hold the table: a mistake in the program.
func mustWrite[R any](_ R, _ bool, err error) {
	if err != nil {
		panic("model: " + err.Error())
	}
}

// Store is the mesh. It is safe for concurrent use.
type Store struct {
	db *statedb.DB

	Services        Table[*Service]
	Endpoints       Table[*EndpointSet]
	Traits          Table[*Traits]
	Workloads       Table[*Workload]
	Destinations    Table[*DestinationRule]
	Virtuals        Table[*VirtualService]
	Sidecars        Table[*Sidecar]
	Peers           Table[*PeerAuthentication]
	Policies        Table[*AuthorizationPolicy]
	Authentications Table[*RequestAuthentication]
	Gateways        Table[*Gateway]
	Credentials     Table[*Credential]
	Namespaces      Table[*Namespace]
	Networks        Table[*Network]
	Entrances       Table[*Entrance]
	Names           Table[*Name]
	Exports         Table[*Export]
	Meshes          Table[*Mesh]
	Clusters        Table[*Cluster]

	byNamespace statedb.Index[*Service, string]

	// tables are all of the above.
	tables []table
}

// NewStore makes an empty Store.
func NewStore() (*Store, error) {
	s := &Store{db: statedb.New()}
	s.byNamespace = statedb.Index[*Service, string]{
		Name: "namespace",
		FromObject: func(svc *Service) index.KeySet {
			return index.NewKeySet(index.String(key(string(svc.Cluster), svc.Namespace)))
		},
		FromKey: index.String,
	}
	err := errors.Join(
		newTable(s, &s.Services, "services", s.byNamespace),
		newTable(s, &s.Endpoints, "endpoints"),
		newTable(s, &s.Traits, "traits"),
		newTable(s, &s.Workloads, "workloads"),
		newTable(s, &s.Destinations, "destinations"),
		newTable(s, &s.Virtuals, "virtuals"),
		newTable(s, &s.Sidecars, "sidecars"),
		newTable(s, &s.Peers, "peers"),
		newTable(s, &s.Policies, "policies"),
		newTable(s, &s.Authentications, "authentications"),
		newTable(s, &s.Gateways, "gateways"),
		newTable(s, &s.Credentials, "credentials"),
		newTable(s, &s.Namespaces, "namespaces"),
		newTable(s, &s.Networks, "networks"),
		newTable(s, &s.Entrances, "entrances"),
		newTable(s, &s.Names, "names"),
		newTable(s, &s.Exports, "exports"),
		newTable(s, &s.Meshes, "meshes"),
		newTable(s, &s.Clusters, "clusters"),
	)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// newTable makes a table and enters it among those of the Store.
func newTable[R Row](s *Store, t *Table[R], name string, secondary ...statedb.Indexer[R]) error {
	t.key = statedb.Index[R, string]{
		Name:       "key",
		FromObject: func(r R) index.KeySet { return index.NewKeySet(index.String(r.Key())) },
		FromKey:    index.String,
		Unique:     true,
	}
	header := func() []string { return []string{"Key"} }
	cells := func(r R) []string { return []string{strings.ReplaceAll(r.Key(), "\x00", "/")} }
	rw, err := statedb.NewTableAny(s.db, name, header, cells, t.key, secondary...)
	if err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	t.RWTable = rw
	s.tables = append(s.tables, t)
	return nil
}

// Read takes a snapshot.
func (s *Store) Read() ReadTxn { return s.db.ReadTxn() }

// Write begins a change of all tables. It must end with Commit or Abort; one
// change runs at a time.
func (s *Store) Write() WriteTxn {
	all := make([]statedb.TableMeta, 0, len(s.tables))
	for _, t := range s.tables {
		all = append(all, t)
	}
	return s.db.WriteTxn(all...)
}

// Settle waits until the channels are closed that what Read shows now has to
// close. A commit first shows its rows and then closes the channels of their
// queries; until it has, its tables are locked, which are all of them (Write).
func (s *Store) Settle() { s.db.WriteTxn(s.Clusters.RWTable).Abort() }

// InNamespace asks for the services of a namespace of a cluster.
func (s *Store) InNamespace(c ClusterID, namespace string) statedb.Query[*Service] {
	return s.byNamespace.Query(key(string(c), namespace))
}

// Mesh returns the configuration that a cluster's control plane was given, or
// the defaults.
func (s *Store) Mesh(txn ReadTxn, c ClusterID) *Mesh {
	if m, _, ok := s.Meshes.Get(txn, s.Meshes.ByKey(string(c))); ok {
		return m
	}
	return DefaultMesh(c)
}
