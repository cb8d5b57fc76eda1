package dataplane

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/load"
	"github.com/isthmus-mesh/isthmus/bench/report"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
)

// openRate is the requests per second of an open run.
const openRate = 1000

// effort is how long and how often to measure.
type effort struct {
	rounds         int
	warmup, closed time.Duration
	open           time.Duration
	streamBytes    int64
	idleConns      int // 0: not measured
	starts         int
}

func (b *bench) effort() effort {
	if b.o.Quick {
		return effort{rounds: 1, warmup: 200 * time.Millisecond, closed: 800 * time.Millisecond,
			open: time.Second, streamBytes: 3e8, starts: 1}
	}
	return effort{rounds: 4, warmup: 400 * time.Millisecond, closed: 1600 * time.Millisecond,
		open: 2400 * time.Millisecond, streamBytes: 1e9, idleConns: 1000, starts: 3}
}

// series is the figures of a lane, one per round.
type series map[string]map[string][]float64 // by figure, by lane

func (s series) add(figure, lane string, v float64) {
	if s[figure] == nil {
		s[figure] = map[string][]float64{}
	}
	s[figure][lane] = append(s[figure][lane], v)
}

func (s series) median(figure, lane string) float64 { return report.Median(s[figure][lane]) }

// least is the smallest value of the rounds.
func (s series) least(figure, lane string) float64 { return report.Quantile(s[figure][lane], 0) }

// ratio is the median of the rounds' ratios: both lanes of a round were
// measured one after the other.
func (s series) ratio(figure, lane, other string) float64 {
	a, b := s[figure][lane], s[figure][other]
	var list []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			list = append(list, a[i]/b[i])
		}
	}
	return report.Median(list)
}

// The figures of a series.
const (
	figCPU     = "CPU µs/request, saturated"
	figRate    = "requests/s, saturated"
	figCPUOpen = "CPU µs/request, 1000/s"
	figP50     = "p50 ms at 1000/s"
	figP99     = "p99 ms at 1000/s"
	figMBs     = "MB/s"
	figCPUGB   = "CPU s/GB"
)

// contenders are the lanes that do the scenario.
func (b *bench) contenders(s scenario) []*lane {
	var out []*lane
	for _, l := range b.lanes {
		if l.name == Nginx && (s.protocol != load.HTTP1 || b.o.Quick) {
			continue
		}
		out = append(out, l)
	}
	return out
}

// compare measures a scenario on all lanes in turns.
func (b *bench) compare(ctx context.Context, s scenario, open bool) (series, error) {
	e := b.effort()
	out := series{}
	for range e.rounds {
		for _, l := range b.contenders(s) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			f, err := l.run(s, 0, e.warmup, e.closed)
			if err != nil {
				return nil, err
			}
			out.add(figCPU, l.name, microseconds(f.cpu))
			out.add(figRate, l.name, f.rate)
			if !open {
				continue
			}
			if f, err = l.run(s, openRate, e.warmup, e.open); err != nil {
				return nil, err
			}
			out.add(figCPUOpen, l.name, microseconds(f.cpu))
			out.add(figP50, l.name, float64(f.p50)/float64(time.Millisecond))
			out.add(figP99, l.name, float64(f.p99)/float64(time.Millisecond))
		}
	}
	return out, nil
}

// table shows a series, lane by lane.
func (b *bench) table(r *report.Report, title string, s series, figures ...string) {
	t := report.Table{Title: title, Head: append([]string{""}, figures...)}
	value := func(f, lane string) float64 {
		if f == figP50 || f == figP99 {
			return s.least(f, lane)
		}
		return s.median(f, lane)
	}
	for _, l := range b.lanes {
		row := []string{l.name}
		some := false
		for _, f := range figures {
			some = some || len(s[f][l.name]) > 0
			row = append(row, report.Number(value(f, l.name)))
		}
		if some {
			t.Rows = append(t.Rows, row)
		}
	}
	r.Table(t)
}

// measure takes all figures.
func (b *bench) measure(ctx context.Context, r *report.Report) error {
	for _, step := range []func(context.Context, *report.Report) error{
		b.idle, b.requests, b.streams, b.allocations, b.connections, b.starts,
	} {
		if err := step(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether all of the contenders take part.
func (b *bench) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return b.lane(n) == nil })
}

// against adds the ratio of Isthmus to another contender; a bar of 0 is none.
func (b *bench) against(r *report.Report, name string, s series, figure, other string, bar float64) {
	if !b.has(Isthmus, other) {
		return
	}
	name += " against " + other
	if bar == 0 {
		r.Add(name, s.ratio(figure, Isthmus, other), "×")
	} else {
		r.AtMost(name, s.ratio(figure, Isthmus, other), "×", bar)
	}
}

// requests measures the HTTP scenarios.
func (b *bench) requests(ctx context.Context, r *report.Report) error {
	one, err := b.compare(ctx, oneHTTP1(), true)
	if err != nil {
		return err
	}
	b.table(r, oneHTTP1().name, one, figCPU, figRate, figCPUOpen, figP50, figP99)
	b.against(r, "HTTP/1.1 one hop, CPU per request", one, figCPU, HAProxy, 1.5)
	b.against(r, "HTTP/1.1 one hop, CPU per request", one, figCPU, Envoy, 0.6)
	two, err := b.compare(ctx, twoHTTP1(), true)
	if err != nil {
		return err
	}
	b.table(r, twoHTTP1().name, two, figCPU, figRate, figCPUOpen, figP50, figP99)
	b.against(r, "two hops mTLS HTTP/1.1, CPU per request", two, figCPU, Envoy, 0.5)
	b.against(r, "two hops mTLS HTTP/1.1, CPU per request", two, figCPU, HAProxy, 0)
	if b.has(Direct, HAProxy, Isthmus) {
		r.AtMost("two hops mTLS, added p99 at 1000/s against haproxy", added(two, Isthmus)/added(two, HAProxy), "×", 1.5)
	}
	for _, s := range []scenario{twoHTTP2(), twoGRPC()} {
		f, err := b.compare(ctx, s, false)
		if err != nil {
			return err
		}
		b.table(r, s.name, f, figCPU, figRate)
		bar := 0.0
		if s.protocol == load.GRPC {
			bar = 1.2
		}
		b.against(r, s.name+", CPU per request", f, figCPU, Envoy, bar)
	}
	return nil
}

// resolution is the smallest difference in latency that counts, in
// milliseconds.
const resolution = 0.01

// added is the latency that a lane's proxies put on top of the direct way, at
// the 99th percentile, in the quietest round of each: what else the machine does
// shows nowhere as much as here, and only ever adds.
func added(s series, lane string) float64 {
	return max(s.least(figP99, lane)-s.least(figP99, Direct), resolution)
}

// streams measures one TCP connection that sends as fast as it can.
func (b *bench) streams(ctx context.Context, r *report.Report) error {
	e := b.effort()
	for _, w := range []Way{OneHop, TwoHops} {
		out := series{}
		for range min(e.rounds, 2) {
			for _, l := range b.lanes {
				if l.name == Nginx {
					continue
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				s, err := l.stream(w, e.streamBytes)
				if err != nil {
					return err
				}
				out.add(figMBs, l.name, s.rate)
				out.add(figCPUGB, l.name, s.cpuPerGB.Seconds())
			}
		}
		b.table(r, "TCP stream, "+string(w), out, figMBs, figCPUGB)
		if w == TwoHops {
			b.against(r, "TCP stream over mTLS, CPU per GB", out, figCPUGB, HAProxy, 1.3)
		}
	}
	return nil
}

// allocations counts the objects that a request costs isthmus-proxy.
func (b *bench) allocations(ctx context.Context, r *report.Report) error {
	l, e := b.lane(Isthmus), b.effort()
	if l == nil {
		return nil
	}
	var worst float64
	for _, s := range []scenario{oneHTTP1(), twoHTTP1(), twoGRPC()} {
		before, err := l.mallocs(ctx, s.way)
		if err != nil {
			return err
		}
		f, err := l.run(s, 0, e.warmup, e.closed)
		if err != nil {
			return err
		}
		after, err := l.mallocs(ctx, s.way)
		if err != nil {
			return err
		}
		per := (after - before) / float64(f.total)
		if s.way == TwoHops {
			per /= 2
		}
		if s.protocol == load.HTTP1 {
			worst = max(worst, per)
			continue
		}
		r.Add("allocations per gRPC request and proxy", per, "")
	}
	r.AtMost("allocations per HTTP/1.1 request and proxy", worst, "", 10)
	return nil
}

func (l *lane) mallocs(ctx context.Context, w Way) (float64, error) {
	sum, err := l.near.Allocations(ctx)
	if err != nil || w == OneHop {
		return sum, err
	}
	far, err := l.far.Allocations(ctx)
	return sum + far, err
}

// idle reads the memory of the client's proxies before they did anything.
func (b *bench) idle(ctx context.Context, r *report.Report) error {
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	t := report.Table{Title: fmt.Sprintf("Idle, mesh of %d services × %d endpoints", meshServices, meshEndpoints), Head: []string{"", "RSS MB"}}
	rss := map[string]float64{}
	for _, l := range b.lanes {
		if l.near == nil {
			continue
		}
		n, err := meter.RSS(l.near.PIDs()...)
		if err != nil {
			return err
		}
		rss[l.name] = float64(n) / 1e6
		t.Rows = append(t.Rows, []string{l.name, report.Number(rss[l.name])})
	}
	r.Table(t)
	if b.has(Isthmus) {
		r.AtMost("idle sidecar RSS, mesh of 1000 services", rss[Isthmus], "MB", 50)
	}
	if b.has(Isthmus, Envoy) {
		r.AtMost("idle sidecar RSS against Envoy, same resources", rss[Isthmus]/rss[Envoy], "×", 0.5)
	}
	return nil
}

// connections reads the memory of both proxies while connections are open.
func (b *bench) connections(ctx context.Context, r *report.Report) error {
	e := b.effort()
	if e.idleConns == 0 {
		return nil
	}
	t := report.Table{Title: fmt.Sprintf("%d open connections, two hops", e.idleConns), Head: []string{"", "client side RSS MB", "server side RSS MB"}}
	for _, l := range b.contenders(twoHTTP1()) {
		if l.near == nil {
			continue
		}
		s := twoHTTP1()
		spec := s.spec(l.target(s))
		spec.Conns = e.idleConns
		var idle *load.Idle
		if err := l.client.Do(func() (err error) { idle, err = load.Hold(spec); return err }); err != nil {
			return fmt.Errorf("%s: %d connections: %w", l.name, e.idleConns, err)
		}
		time.Sleep(time.Second)
		near, err := meter.RSS(l.near.PIDs()...)
		if err == nil {
			var far int64
			far, err = meter.RSS(l.far.PIDs()...)
			t.Rows = append(t.Rows, []string{l.name, report.Number(float64(near) / 1e6), report.Number(float64(far) / 1e6)})
			if l.name == Isthmus {
				r.Add(fmt.Sprintf("client sidecar RSS, %d connections", e.idleConns), float64(near)/1e6, "MB")
			}
		}
		idle.Close()
		if err != nil {
			return err
		}
	}
	r.Table(t)
	return nil
}

// starts measures the time from the start of a sidecar until it is ready: it has
// its certificate and all its resources.
func (b *bench) starts(ctx context.Context, r *report.Report) error {
	t := report.Table{Title: "Start until ready, certificate and 1000 services fetched", Head: []string{"", "ms", "CPU ms"}}
	for _, name := range []string{Isthmus, Envoy} {
		l := b.lane(name)
		if l == nil {
			continue
		}
		var took, cpu []float64
		for range b.effort().starts {
			l.near.Stop()
			p, err := b.startMesh(ctx, l, l.client, podName("client", l.name))
			if err != nil {
				return err
			}
			took = append(took, float64(time.Since(p.Started))/float64(time.Millisecond))
			l.near = p
			used, err := meter.CPU(p.PIDs()...)
			if err != nil {
				return err
			}
			cpu = append(cpu, float64(used)/float64(time.Millisecond))
		}
		ms := report.Median(took)
		t.Rows = append(t.Rows, []string{name, report.Number(ms), report.Number(report.Median(cpu))})
		if name == Isthmus {
			r.AtMost("sidecar start to ready, xDS served", ms, "ms", 300)
		}
	}
	r.Table(t)
	return nil
}
