package model

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// full sets every field of a value to something, so that one that is lost on the
// way is seen, whichever fields there are.
func full(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.7")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
		return
	}

	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		full(t, v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				t.Errorf("%s.%s is not exported: a saved row would lose it", path, f.Name)
				continue
			}
			full(t, v.Field(i), path+"."+f.Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		full(t, v.Index(0), path)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		full(t, key, path)
		full(t, value, path)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(path[strings.LastIndex(path, ".")+1:])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(0.5)
	default:
		t.Errorf("%s: a %s cannot be saved", path, v.Type())
	}
}

// insertFull inserts a row of which everything is said.
func (t *Table[R]) insertFull(test *testing.T, txn WriteTxn, c ClusterID) {
	row := reflect.New(reflect.TypeFor[R]().Elem())
	full(test, row.Elem(), row.Elem().Type().Name())
	id := row.Elem().FieldByName("Cluster")
	if !id.IsValid() {
		id = row.Elem().FieldByName("ID")
	}
	id.Set(reflect.ValueOf(c))
	mustWrite(t.Insert(txn, row.Interface().(R)))
}

func (t *Table[R]) rowsOf(read ReadTxn, c ClusterID) any { return t.of(read, c) }

// TestSave: rows of every table come back as they were, each field of them.
func TestSave(t *testing.T) {
	s, err := NewStore()
	if err != nil {
		t.Fatal(err)
	}
	txn := s.Write()
	for _, each := range s.tables {
		each.(interface {
			insertFull(*testing.T, WriteTxn, ClusterID)
		}).insertFull(t, txn, "a")
	}
	txn.Commit()
	fill(t, s, "b")

	var text bytes.Buffer
	if err := s.Save(&text, "a"); err != nil {
		t.Fatal(err)
	}
	back, err := Restore(bytes.NewReader(text.Bytes()), "a")
	if err != nil {
		t.Fatal(err)
	}
	for i, each := range s.tables {
		rows := func(t table, s *Store) any {
			return t.(interface{ rowsOf(ReadTxn, ClusterID) any }).rowsOf(s.Read(), "a")
		}
		was, is := rows(each, s), rows(back.tables[i], back)
		if !reflect.DeepEqual(was, is) || back.tables[i].NumObjects(back.Read()) != 1 {
			t.Errorf("%s: %+v came back as %+v", each.Name(), was, is)
		}
	}
}

// TestRestoreRefuses: what is not wholly what Save wrote of this cluster.
func TestRestoreRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            "",
		"no JSON":            "{",
		"another cluster":    `{"version":1,"cluster":"b"}`,
		"another version":    `{"version":2,"cluster":"a"}`,
		"a row of another":   `{"version":1,"cluster":"a","tables":{"namespaces":[{"Cluster":"b","Name":"x"}]}}`,
		"no row":             `{"version":1,"cluster":"a","tables":{"namespaces":[null]}}`,
		"a field of another": `{"version":1,"cluster":"a","tables":{"namespaces":[{"Cluster":"a","Name":7}]}}`,
	} {
		if _, err := Restore(strings.NewReader(text), "a"); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := Restore(strings.NewReader(fmt.Sprintf(`{"version":%d,"cluster":"a","more":1,"tables":{"new":[1]}}`, savedVersion)), "a"); err != nil {
		t.Errorf("what a newer version adds is refused: %v", err)
	}
}
