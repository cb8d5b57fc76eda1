package model

import (
	"encoding/json"
	"fmt"
	"io"
)

// savedVersion is that of the form in which rows are saved. A field more or less
// needs no other: what is not there is zero. It is raised when a field comes to
// mean something else.
const savedVersion = 1

// saved is the rows of one cluster, written down.
type saved struct {
	Version int                        `json:"version"`
	Cluster ClusterID                  `json:"cluster"`
	Tables  map[string]json.RawMessage `json:"tables"`
}

// Save writes the rows of a cluster as JSON, for Restore.
func (s *Store) Save(w io.Writer, c ClusterID) error {
	out := saved{Version: savedVersion, Cluster: c, Tables: map[string]json.RawMessage{}}
	read := s.Read()
	for _, t := range s.tables {
		rows, err := t.encode(read, c)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name(), err)
		}
		if rows != nil {
			out.Tables[t.Name()] = rows
		}
	}
	return json.NewEncoder(w).Encode(out)
}

// Restore reads what Save wrote into a Store of its own, from which Replace takes
// it. It is an error when any of it cannot be read, or is of another cluster.
func Restore(r io.Reader, c ClusterID) (*Store, error) {
	var in saved
	if err := json.NewDecoder(r).Decode(&in); err != nil {
		return nil, err
	}
	if in.Version != savedVersion || in.Cluster != c {
		return nil, fmt.Errorf("rows of the cluster %q in version %d; %q in version %d is wanted", in.Cluster, in.Version, c, savedVersion)
	}

	s, err := NewStore()
	if err != nil {
		return nil, err
	}
	txn := s.Write()
	defer txn.Abort()
	for _, t := range s.tables {
		if err := t.decode(txn, c, in.Tables[t.Name()]); err != nil {
			return nil, fmt.Errorf("table %s: %w", t.Name(), err)
		}
	}
	txn.Commit()
	return s, nil
}

func (t *Table[R]) encode(read ReadTxn, c ClusterID) (json.RawMessage, error) {
	rows := t.of(read, c)
	if len(rows) == 0 {
		return nil, nil
	}
	return json.Marshal(rows)
}

func (t *Table[R]) decode(txn WriteTxn, c ClusterID, raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	var rows []R
	if err := json.Unmarshal(raw, &rows); err != nil {
		return err
	}
	var none R
	for _, r := range rows {
		if any(r) == any(none) || r.ReadFrom() != c {
			return fmt.Errorf("a row of no or another cluster among those of %s", c)
		}
		mustWrite(t.Insert(txn, r))
	}
	return nil
}
