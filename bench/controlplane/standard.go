package controlplane

import (
	"context"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/fleet"
	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/test/rig/mesh"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/xds"
)

// restartedPods is the size of the rolling restart.
const restartedPods = 100

func standard(ctx context.Context, o Options, rep *report.Report, proxies, services int) error {
	r, err := newRig(ctx, o, proxies, services, stdEndpoints)
	if err != nil {
		return err
	}
	defer r.close()
	p := float64(proxies)
	rep.AtMost(fmt.Sprintf("%d proxies that hold nothing, until all are in sync", proxies), r.connect.took.Seconds(), "s", 10)
	rep.Add("the same, processor time of discovery", r.connect.cpu.Seconds(), "s")
	rep.Add("the same, sent to each proxy", float64(r.connect.traffic.Bytes)/p/1e6, "MB")

	for _, step := range []func(context.Context, *rig, *report.Report) error{endpointChanges, entryChanges, rollingRestart, memory, restart} {
		if err := step(ctx, r, rep); err != nil {
			return err
		}
	}
	return nil
}

func endpointChanges(ctx context.Context, r *rig, rep *report.Report) error {
	n := 200
	if r.o.Quick {
		n = 30
	}
	before, err := r.proc.Stats(ctx)
	if err != nil {
		return err
	}
	var delays []time.Duration
	cost, err := r.measured(func() (err error) {
		delays, err = r.changes(ctx, n, r.endpointChange)
		return err
	})
	if err != nil {
		return err
	}
	after, err := r.proc.Stats(ctx)
	if err != nil {
		return err
	}
	ms := millisecondsOf(delays)
	rep.AtMost("one endpoint changes, until the last proxy acknowledged, p99", report.Quantile(ms, 0.99), "ms", 100)
	rep.Add("the same, p50", report.Median(ms), "ms")
	rep.Add("the same, processor time of discovery", milliseconds(cost.cpu)/float64(n), "ms")
	rep.AtMost("resources rebuilt by one endpoint change, per View", float64(after.Built-before.Built)/float64(n*after.Views), "", 1)
	rep.AtMost("bytes sent to each proxy for one endpoint change", float64(cost.traffic.Bytes)/float64(n*r.proxies), "B", 2048)
	return nil
}

func entryChanges(ctx context.Context, r *rig, rep *report.Report) error {
	n := 20
	if r.o.Quick {
		n = 5
	}
	var delays []time.Duration
	cost, err := r.measured(func() (err error) {
		delays, err = r.changes(ctx, n, func(i int) (mesh.Change, *fleet.Watch) {
			return mesh.Change{Kind: mesh.ChangeEntry, N: i}, r.fleet.WatchHosts(xds.VirtualHostName("80", mesh.EntryHost(i)))
		})
		return err
	})
	if err != nil {
		return err
	}
	ms := millisecondsOf(delays)
	rep.Add("one ServiceEntry made, until the last proxy acknowledged its routes, p50", report.Median(ms), "ms")
	rep.Add("the same, largest", report.Quantile(ms, 1), "ms")
	rep.Add("the same, processor time of discovery", milliseconds(cost.cpu)/float64(n), "ms")
	rep.AtMost("bytes sent to each proxy for one ServiceEntry", float64(cost.traffic.Bytes)/float64(n*r.proxies), "B", 4096)
	return nil
}

func rollingRestart(ctx context.Context, r *rig, rep *report.Report) error {
	var delays []time.Duration
	cost, err := r.measured(func() (err error) {
		delays, err = r.changes(ctx, 1, func(int) (mesh.Change, *fleet.Watch) {
			last := (restartedPods - 1) / r.proc.Scene.Endpoints
			return mesh.Change{Kind: mesh.ChangeRestart, N: restartedPods}, r.fleet.WatchEndpoints(mesh.EndpointsName(last))
		})
		// The watch ends with the first push of the last service; more may
		// follow.
		time.Sleep(500 * time.Millisecond)
		return err
	})
	if err != nil {
		return err
	}
	rep.Add(fmt.Sprintf("%d pods restart within 100 ms, processor time of discovery", restartedPods), milliseconds(cost.cpu), "ms")
	rep.Add("the same, pushes to each proxy", float64(cost.traffic.Pushes)/float64(r.proxies), "")
	rep.Add("the same, sent to each proxy", float64(cost.traffic.Bytes)/float64(r.proxies)/1e3, "kB")
	_ = delays // of a push in the middle of the restart: says nothing
	return nil
}

func memory(ctx context.Context, r *rig, rep *report.Report) error {
	time.Sleep(settle)
	rss, err := meter.RSS(r.proc.PID())
	if err != nil {
		return err
	}
	stats, err := r.proc.Stats(ctx)
	if err != nil {
		return err
	}
	rep.Add("discovery RSS, no proxy connected", float64(r.rssAlone)/1e6, "MB")
	rep.Add(fmt.Sprintf("discovery RSS, %d proxies", r.proxies), float64(rss)/1e6, "MB")
	rep.Add("the same, live heap", float64(stats.HeapLive)/1e6, "MB")
	rep.AtMost("discovery RSS per connected proxy", float64(rss-r.rssAlone)/float64(r.proxies)/1e3, "kB", 200)
	return nil
}

func restart(ctx context.Context, r *rig, rep *report.Report) error {
	p, err := r.restart(ctx)
	if err != nil {
		return err
	}
	rep.AtMost(fmt.Sprintf("discovery restarts under %d proxies, until all are in sync", r.proxies), p.took.Seconds(), "s", 10)
	rep.Add("the same, processor time of discovery", p.cpu.Seconds(), "s")
	rep.Add("the same, sent to each proxy", float64(p.traffic.Bytes)/float64(r.proxies)/1e6, "MB")
	return nil
}
