package resources

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// desk asks questions of a Store, and counts what is built.
type desk struct {
	t     *testing.T
	store *model.Store
	round uint64
	built []string

	lengths memo[lengthOf, *length]
	totals  memo[totalOf, *total]
}

// length is how many endpoints a set has; -1: there is no such set.
type length struct{ n int }

// lengthOf asks how long an endpoint set is.
type lengthOf struct {
	desk *desk
	name string
}

func (q lengthOf) build(r *reader, old *length) *length {
	q.desk.built = append(q.desk.built, q.name)
	now := length{-1}
	if set := readRow(r, &q.desk.store.Endpoints, (&model.EndpointSet{Name: q.name}).Key()); set != nil {
		now.n = len(set.Endpoints)
	}
	if old != nil && *old == now {
		return old
	}
	return &now
}

// total is of all lengths of the sets that a Workload's labels name, and how many
// Gateways there are.
type total struct{ lengths, gateways int }

type totalOf struct{ desk *desk }

func (q totalOf) build(r *reader, _ *total) *total {
	d := q.desk
	d.built = append(d.built, "total")
	out := &total{}
	for range readAll(r, &d.store.Gateways) {
		out.gateways++
	}
	if list := readRow(r, &d.store.Workloads, model.WorkloadKey("", "", "list")); list != nil {
		for _, name := range strings.Fields(list.Labels["sets"]) {
			out.lengths += d.lengths.get(r, lengthOf{d, name}).n
		}
	}
	return out
}

// ask gives the total, and what had to be built for it.
func (d *desk) ask() (total, string) {
	d.round++
	d.built = nil
	r := &reader{txn: d.store.Read(), round: d.round}
	got := *d.totals.get(r, totalOf{d})
	slices.Sort(d.built)
	return got, strings.Join(d.built, " ")
}

func (d *desk) write(change func(txn model.WriteTxn) error) {
	d.t.Helper()
	txn := d.store.Write()
	defer txn.Commit()
	if err := change(txn); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) set(name string, endpoints int) {
	d.t.Helper()
	d.write(func(txn model.WriteTxn) error {
		_, _, err := d.store.Endpoints.Insert(txn, &model.EndpointSet{Name: name, Endpoints: make([]model.Endpoint, endpoints)})
		return err
	})
}

func (d *desk) list(names string) {
	d.t.Helper()
	d.write(func(txn model.WriteTxn) error {
		_, _, err := d.store.Workloads.Insert(txn, &model.Workload{Name: "list", Labels: map[string]string{"sets": names}})
		return err
	})
}

// TestMemo: what was read is looked at again, and only what depends on a change
// is built anew.
func TestMemo(t *testing.T) {
	store, err := model.NewStore()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, store: store}
	d.set("a", 1)
	d.set("b", 2)
	d.list("a b")

	for _, step := range []struct {
		what   string
		change func()
		want   total
		built  string
	}{
		{
			what:   "at first",
			change: func() {},
			want:   total{lengths: 3},
			built:  "a b total",
		},
		{
			what:   "no change",
			change: func() {},
			want:   total{lengths: 3},
		},
		{
			what:   "a row that nobody read",
			change: func() { d.set("other", 7) },
			want:   total{lengths: 3},
		},
		{
			what:   "a row",
			change: func() { d.set("b", 4) },
			want:   total{lengths: 5},
			built:  "b total",
		},
		{
			what:   "a row that comes to the same: who reads the answer is not built",
			change: func() { d.set("b", 4) },
			want:   total{lengths: 5},
			built:  "b",
		},
		{
			what: "any row of a table that was read as a whole",
			change: func() {
				d.write(func(txn model.WriteTxn) error {
					_, _, err := store.Gateways.Insert(txn, &model.Gateway{Name: "g"})
					return err
				})
			},
			want:  total{lengths: 5, gateways: 1},
			built: "total",
		},
		{
			what:   "what is read changes: what is not asked for any more is not looked at",
			change: func() { d.list("a"); d.set("b", 9) },
			want:   total{lengths: 1, gateways: 1},
			built:  "total",
		},
		{
			what:   "a row that is not there",
			change: func() { d.list("a c") },
			want:   total{lengths: 0, gateways: 1},
			built:  "c total",
		},
		{
			what:   "neighbours of a row that is not there",
			change: func() { d.set("c0", 1); d.set("c1", 1); d.set("0", 1) },
			want:   total{lengths: 0, gateways: 1},
		},
		{
			what:   "a row that comes",
			change: func() { d.set("c", 5) },
			want:   total{lengths: 6, gateways: 1},
			built:  "c total",
		},
		{
			what: "a row that goes",
			change: func() {
				d.write(func(txn model.WriteTxn) error {
					_, _, err := store.Endpoints.Delete(txn, &model.EndpointSet{Name: "a"})
					return err
				})
			},
			want:  total{lengths: 4, gateways: 1},
			built: "a total",
		},
		{
			what:   "what was forgotten is built again, and nothing else",
			change: func() { d.lengths.forget(func(q lengthOf) bool { return q.name == "a" }); d.list("a c") },
			want:   total{lengths: 4, gateways: 1},
			built:  "a total",
		},
	} {
		step.change()
		if got, built := d.ask(); got != step.want || built != step.built {
			t.Errorf("%s: got %+v, built %q; want %+v, %q", step.what, got, built, step.want, step.built)
		}
	}
}

// TestAnnouncementsCoverWhatIsRead: the hub announces a type at changes of every
// table that its resources are read from; else nobody would ask for them again.
func TestAnnouncementsCoverWhatIsRead(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	insert(m, m.store.Gateways, &model.Gateway{Cluster: testCluster, Namespace: "shop", Name: "front", Selector: map[string]string{"app": "web"},
		Servers: []model.GatewayServer{{Port: 8081, Mode: model.ServeHTTP, Hosts: []string{"*"}}}})
	insert(m, m.store.Virtuals, &model.VirtualService{Cluster: testCluster, Namespace: "shop", Name: "front", Hosts: []string{"*"}, Gateways: []string{"shop/front"},
		HTTP: []model.HTTPRoute{{Destinations: []model.WeightedDestination{{Host: webHost, Port: 80, Weight: 1}}}}})
	announced := map[string][]string{}
	for _, f := range m.source.hub.feeds() {
		feed := reflect.ValueOf(f).Elem()
		for i := range feed.FieldByName("types").Len() {
			typeURL := feed.FieldByName("types").Index(i).String()
			announced[typeURL] = append(announced[typeURL], feed.FieldByName("table").Elem().Type().String())
		}
	}

	s := m.source
	for _, kind := range []string{xds.KindSidecar, xds.KindRouter} {
		v := m.view(takesHosts(node(kind, "shop", "web-1", map[string]string{"app": "web", "istio": "ingressgateway"}))).(*view)
		for typeURL, ask := range map[string]func(r *reader) int{
			xds.TypeCluster:  func(r *reader) int { return len(v.clusters.get(r).byName) },
			xds.TypeListener: func(r *reader) int { return len(v.listeners.get(r).byName) },
			xds.TypeEndpoint: func(r *reader) int { return v.endpoints(r, nil, changeLog{}).Len() },
			xds.TypeRoute:    func(r *reader) int { return len(v.routes(r, nil)) },
			xds.TypeVirtualHost: func(r *reader) int {
				// Whole route configurations are read from the same tables.
				_ = v.scope.routeConfig(r, "80", false)
				return len(v.virtualHosts(r, nil))
			},
			xds.TypeNameTable: func(r *reader) int {
				if kind == xds.KindRouter {
					return 1 // it has none, and asks for none
				}
				return len(v.names(r))
			},
		} {
			s.mu.Lock()
			r := s.newReaderLocked()
			r.building = true // so that it notes what it reads
			if ask(r) == 0 {
				t.Errorf("a %s has no %s", kind, xds.Short(typeURL))
			}
			s.mu.Unlock()
			read := map[string]bool{}
			for _, in := range r.inputs {
				addTables(reflect.ValueOf(in), read)
			}
			for table := range read {
				if !slices.Contains(announced[typeURL], table) {
					t.Errorf("%s of a %s are read from %s, whose changes are not announced for it", xds.Short(typeURL), kind, table)
				}
			}
		}
	}
}

// addTables adds the types of the tables that an input was read from, in the end.
func addTables(in reflect.Value, to map[string]bool) {
	if table := in.Elem().FieldByName("table"); table.IsValid() {
		to[table.Type().Elem().String()] = true
		return
	}
	inputs := in.Elem().FieldByName("inputs")
	for i := range inputs.Len() {
		addTables(inputs.Index(i).Elem(), to)
	}
}

// TestWhoIsToldSees: who asks after it was told of a change is given it, however
// much others ask meanwhile.
func TestWhoIsToldSees(t *testing.T) {
	m := newMesh(t)
	services := fill(m, 20, 1)
	v := m.view(node("sidecar", "ns0", "p", nil))
	stop := make(chan struct{})
	var others sync.WaitGroup
	defer others.Wait()
	defer close(stop)
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, typeURL := range allTypes {
					m.resources(v, typeURL)
				}
			}
		})
	}

	versions := map[string]string{}
	for i := range 200 {
		s := services[i%len(services)]
		name := "outbound|80||" + s.Host
		_, told, err := v.Resources(xds.TypeEndpoint, []string{name})
		if err != nil {
			t.Fatal(err)
		}
		m.endpoints(s, fmt.Sprintf("10.9.%d.%d", i/250, i%250))
		<-told
		res := m.resources(v, xds.TypeEndpoint, name)[name]
		if res.Version == versions[name] {
			t.Fatalf("change %d: %s is what it was", i, name)
		}
		versions[name] = res.Version
	}
}
