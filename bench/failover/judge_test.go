package failover

import (
	"reflect"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// began is when the runs of the tests start.
var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// answer is a request that was due at a time, in milliseconds of the run, and
// answered by a cluster.
func answer(due, took int, cluster string) record.Request {
	return record.Request{
		Due: began.Add(time.Duration(due) * time.Millisecond), Took: time.Duration(took) * time.Millisecond,
		Status: 200, By: cluster + "/pod",
	}
}

// failure is a request that was answered with another status.
func failure(due, took int, why string) record.Request {
	r := answer(due, took, "")
	r.Status, r.By, r.Why = 503, "", why
	return r
}

func TestJudge(t *testing.T) {
	at := Times{Broke: began.Add(time.Second), Healed: began.Add(3 * time.Second)}
	for _, tt := range []struct {
		name string
		list []record.Request
		want Figures
	}{
		{
			name: "nothing happens",
			list: []record.Request{answer(0, 5, "a"), answer(1500, 7, "a"), answer(3500, 6, "a")},
			want: Figures{Sent: 3, Slowest: 7 * time.Millisecond, SlowestBefore: 5 * time.Millisecond, Near: true},
		},
		{
			name: "over to the other cluster and back",
			list: []record.Request{answer(0, 5, "a"), answer(1500, 300, "b"), answer(3400, 6, "b"), answer(3500, 6, "a")},
			want: Figures{
				Sent: 4, Slowest: 300 * time.Millisecond, SlowestBefore: 5 * time.Millisecond,
				LastAffected: 500 * time.Millisecond, Back: 400 * time.Millisecond, Near: true,
			},
		},
		{
			name: "never back",
			list: []record.Request{answer(0, 5, "a"), answer(4000, 5, "b")},
			want: Figures{Sent: 2, Slowest: 5 * time.Millisecond, SlowestBefore: 5 * time.Millisecond, Back: time.Second},
		},
		{
			name: "in flight at the break, and lost",
			list: []record.Request{failure(990, 500, "gone"), failure(1010, 5, "gone"), failure(1020, 5, "reset"), answer(3200, 5, "a")},
			want: Figures{
				Sent: 4, Failed: 3, Slowest: 5 * time.Millisecond, LastAffected: 20 * time.Millisecond,
				Near: true, Whys: []string{"gone", "reset"},
			},
		},
		{
			name: "as slow as before is not affected",
			list: []record.Request{answer(0, 200, "a"), answer(1500, 150, "a")},
			want: Figures{Sent: 2, Slowest: 150 * time.Millisecond, SlowestBefore: 200 * time.Millisecond, Near: true},
		},
		{
			name: "answers come in another order than requests",
			list: []record.Request{answer(3300, 5, "a"), answer(3200, 50, "b")},
			want: Figures{Sent: 2, Slowest: 50 * time.Millisecond, Back: 200 * time.Millisecond, Near: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(tt.list, "a", at); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestDuplicates(t *testing.T) {
	if n := duplicates("a\nb\n", "c\nb\n", "b\nd\nd\n"); n != 2 {
		t.Errorf("%d requests were acted on more than once, want 2: b and d", n)
	}
	if n := duplicates("", ""); n != 0 {
		t.Errorf("%d of none", n)
	}
}

// TestSince: what was sent while the scene was made ready is not judged.
func TestSince(t *testing.T) {
	run := record.Run{
		"GET":  {answer(0, 5, "b"), answer(1000, 5, "a"), answer(2000, 5, "a")},
		"POST": {failure(0, 5, "not ready")},
	}
	want := record.Run{"GET": run["GET"][1:]}
	if got := since(run, began.Add(time.Second)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
