package httpproxy

import (
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/exchange"
	"github.com/isthmus-mesh/isthmus/proxy/http1"
)

// TestKnownFields asks both engines for fields by number and by name: one must see what the other did.
func TestKnownFields(t *testing.T) {
	for k := range exchange.Knowns {
		name := k.String()
		if knownIDs[k].String() != name {
			t.Errorf("%s is %q for HTTP/1", name, knownIDs[k])
		}

		var h http1.Head
		if err := h.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: a\r\n" + name + ": 1\r\nX: y\r\n" + name + ": 2\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		list := fieldList{{Name: "x", Value: "y"}, {Name: name, Value: "1"}, {Name: name, Value: "2"}}
		for engine, f := range map[string]exchange.Fields{"HTTP/1": new(headFields).of(&h), "HTTP/2": &list} {
			check := func(when string, want bool) {
				t.Helper()
				_, looked := f.Lookup(name)
				_, joined := f.Joined(name, ",")
				if has := f.Has(k); has != want || looked != want || joined != want {
					t.Errorf("%s, %s %s: Has %v, Lookup %v, Joined %v, want %v", engine, name, when, has, looked, joined, want)
				}
			}

			check("as it came", true)
			f.DropKnown(k)
			check("dropped by number", false)
			f.Add(name, "3")
			check("added", true)
			f.DropKnown(k)
			check("added and dropped by number", false)
			f.Add(name, "4")
			f.Drop(name)
			check("added and dropped by name", false)
		}
		if got := string(h.AppendFields(nil)); got != "Host: a\r\nX: y\r\n" {
			t.Errorf("HTTP/1 keeps %q without %s", got, name)
		}
		if len(list) != 1 || list[0] != (hpack.HeaderField{Name: "x", Value: "y"}) {
			t.Errorf("HTTP/2 keeps %v without %s", list, name)
		}
	}
}
