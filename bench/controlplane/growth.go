package controlplane

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
)

// point is one size of the mesh on the curve.
type point struct{ services, endpoints, proxies int }

// curve varies one size at a time. The first and last of the sizes of services
// are those of the bar.
func curve() []point {
	return []point{
		{100, 10, 200}, {1000, 10, 200}, {10000, 10, 200},
		{1000, 1, 200}, {1000, 30, 200},
		{1000, 10, 50}, {1000, 10, 500},
	}
}

func growth(ctx context.Context, o Options, rep *report.Report) error {
	table := report.Table{
		Title: "Control plane, growth",
		Head: []string{"services × endpoints, proxies", "sync s", "CPU s", "MB each", "change p50 ms", "p99 ms",
			"CPU per change ms", "rebuilt", "RSS MB"},
	}
	var small, large float64
	for _, p := range curve() {
		row, perChange, err := grow(ctx, o, p)
		if err != nil {
			return fmt.Errorf("%d services, %d endpoints, %d proxies: %w", p.services, p.endpoints, p.proxies, err)
		}
		if p == curve()[0] {
			small = perChange
		}
		if p == curve()[2] {
			large = perChange
		}
		table.Rows = append(table.Rows, row)
	}
	rep.AtMost("processor time per endpoint change, 10 000 services against 100", large/small, "×", 1.2)
	rep.Table(table)
	return nil
}

// grow measures one point: a row of the table, and the processor time of a
// change in milliseconds.
func grow(ctx context.Context, o Options, p point) ([]string, float64, error) {
	r, err := newRig(ctx, o, p.proxies, p.services, p.endpoints)
	if err != nil {
		return nil, 0, err
	}
	defer r.close()
	// Let the collector finish what the first pushes left behind.
	time.Sleep(time.Second)
	before, err := r.proc.Stats(ctx)
	if err != nil {
		return nil, 0, err
	}
	const n = 100
	var delays []time.Duration
	cost, err := r.measured(func() (err error) {
		delays, err = r.changes(ctx, n, r.endpointChange)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	rss, err := meter.RSS(r.proc.PID())
	if err != nil {
		return nil, 0, err
	}
	after, err := r.proc.Stats(ctx)
	if err != nil {
		return nil, 0, err
	}
	perChange := milliseconds(cost.cpu) / n
	ms := millisecondsOf(delays)
	return []string{
		fmt.Sprintf("%d × %d, %d", p.services, p.endpoints, p.proxies),
		report.Number(r.connect.took.Seconds()), report.Number(r.connect.cpu.Seconds()),
		report.Number(float64(r.connect.traffic.Bytes) / float64(p.proxies) / 1e6),
		report.Number(report.Median(ms)), report.Number(report.Quantile(ms, 0.99)),
		report.Number(perChange), report.Number(float64(after.Built-before.Built) / n),
		report.Number(float64(rss) / 1e6),
	}, perChange, nil
}
