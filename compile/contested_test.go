package compile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// crowd is the row of a ServiceEntry made on a day, for one port.
func crowd(namespace, name, host, address string, day int, port model.Port) *model.Service {
	svc := &model.Service{
		Cluster: "c1", Namespace: namespace, Name: name, Host: host, Origin: model.FromServiceEntry,
		Created: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC), Ports: []model.Port{port},
	}
	if address != "" {
		svc.Addresses = []netip.Prefix{netip.MustParsePrefix(address)}
	}
	return svc
}

// TestEntryNotes: a host that no connection reaches is told of, with the one
// that has it, and no other.
func TestEntryNotes(t *testing.T) {
	at := func(protocol model.Protocol) model.Port {
		return model.Port{Name: "p", Number: 9000, Protocol: protocol}
	}
	const one = "10.20.0.1/32"
	for name, c := range map[string]struct {
		first, second *model.Service
		told          string // to the second; empty: nothing
	}{
		"two of TCP at an address": {
			crowd("shop", "z", "z.example", one, 1, at(model.TCP)), crowd("shop", "a", "a.example", one, 2, at(model.TCP)),
			`"a.example" gets no connection to 10.20.0.1:9000, where nothing tells it from "z.example" of ServiceEntry shop/z`,
		},
		"two hosts of one entry": {
			crowd("shop", "e", "a.example", one, 1, at(model.TCP)), crowd("shop", "e", "b.example", one, 1, at(model.TCP)),
			`"b.example" gets no connection`,
		},
		"at a prefix": {
			crowd("shop", "z", "z.example", "10.20.0.0/16", 1, at(model.TCP)), crowd("shop", "a", "a.example", "10.20.0.0/16", 2, at(model.TCP)),
			"to 10.20.0.0/16 at port 9000",
		},
		"on a whole port": {
			crowd("shop", "z", "*.z.example", "", 1, at(model.TCP)), crowd("shop", "a", "*.a.example", "", 2, at(model.TCP)),
			"to any address at port 9000",
		},
		"no protocol at an address": {
			crowd("shop", "z", "z.example", one, 1, at(model.Unknown)), crowd("shop", "a", "a.example", one, 2, at(model.TCP)),
			"gets no connection",
		},
		"TLS beside TCP": {
			crowd("shop", "z", "z.example", one, 1, at(model.TCP)), crowd("shop", "a", "a.example", one, 2, at(model.TLS)),
			"",
		},
		"HTTP": {
			crowd("shop", "z", "z.example", one, 1, at(model.HTTP)), crowd("shop", "a", "a.example", one, 2, at(model.HTTP)),
			"",
		},
		"HTTP at a prefix": {
			crowd("shop", "z", "z.example", one, 1, at(model.HTTP)), crowd("shop", "a", "a.example", "10.20.0.0/16", 2, at(model.HTTP)),
			`spec.addresses: "10.20.0.0/16" changes nothing for port 9000`,
		},
		"no protocol, no address": {
			crowd("shop", "z", "z.example", one, 1, at(model.TCP)), crowd("shop", "a", "*.a.example", "", 2, at(model.Unknown)),
			"spec.ports: port 9000 gives no protocol",
		},
		"one host twice": {
			crowd("shop", "z", "a.example", one, 1, at(model.TCP)), crowd("shop", "a", "a.example", one, 2, at(model.TCP)),
			"",
		},
		"namespaces that do not see each other": {
			private(crowd("shop", "z", "z.example", one, 1, at(model.TCP))), private(crowd("data", "a", "a.example", one, 2, at(model.TCP))),
			"",
		},
		"one that everybody sees, and an older that its own namespace sees": {
			private(crowd("shop", "z", "z.example", one, 1, at(model.TCP))), crowd("data", "a", "a.example", one, 2, at(model.TCP)),
			"gets no connection",
		},
		"joined to a Service": {
			crowd("shop", "z", "z.example", one, 1, at(model.TCP)), joined(crowd("shop", "a", "web.shop.svc.cluster.local", one, 2, at(model.TCP))),
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			notes := EntryNotes([]*model.Service{c.second, c.first})
			got := strings.Join(notes[EntryName{c.second.Namespace, c.second.Name}], "\n")
			if (c.told == "") != (got == "") || !strings.Contains(got, c.told) {
				t.Errorf("told %q, want %q", got, c.told)
			}
			if c.first.Name != c.second.Name && len(notes[EntryName{c.first.Namespace, c.first.Name}]) != 0 {
				t.Errorf("the first is told %q", notes)
			}
		})
	}
}

func private(s *model.Service) *model.Service {
	s.ExportTo = []string{s.Namespace}
	return s
}

func joined(s *model.Service) *model.Service {
	s.JoinsService = true
	return s
}

// TestEntryNotesAreBounded: they stand in the status of the entry.
func TestEntryNotesAreBounded(t *testing.T) {
	var rows []*model.Service
	for i := range 100 {
		rows = append(rows, crowd("shop", "e", fmt.Sprintf("h%02d.example", i), "10.20.0.1/32", 1, model.Port{Number: 9000, Protocol: model.TCP}))
	}
	notes := EntryNotes(rows)[EntryName{"shop", "e"}]
	if len(notes) != maxNotes+1 || notes[maxNotes] != "and 94 more of the kind" {
		t.Errorf("notes %q", notes)
	}
}
