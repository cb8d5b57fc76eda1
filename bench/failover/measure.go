package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// Row is what one caller saw of one fault, with one method.
type Row struct {
	Fault  string `json:"fault"`
	Model  Model  `json:"model"`
	Caller string `json:"caller"` // near or far: in which cluster it is
	Method string `json:"method"`

	Sent            int     `json:"sent"`
	Failed          int     `json:"failed"`
	SlowestMS       float64 `json:"slowest_ms"`
	SlowestBeforeMS float64 `json:"slowest_before_ms"`
	LastAffectedMS  float64 `json:"last_affected_ms"`
	// BackMS is negative where traffic was not near again when the run ended.
	BackMS float64 `json:"back_ms"`
	// Duplicates are POSTs that applications acted on more than once, those of
	// both callers.
	Duplicates int      `json:"duplicates"`
	Bar        string   `json:"bar"`
	OK         bool     `json:"ok"`
	Whys       []string `json:"whys,omitempty"`
}

// String is the row on one line.
func (r *Row) String() string {
	line := fmt.Sprintf("%-10s %-40s %-4s %-4s sent %5d failed %4d slowest %7.1f ms (%.1f before) affected until %7.1f ms back %7.1f ms",
		r.Model, r.Fault, r.Caller, r.Method, r.Sent, r.Failed, r.SlowestMS, r.SlowestBeforeMS, r.LastAffectedMS, r.BackMS)
	if r.Method == "POST" {
		line += fmt.Sprintf(" duplicates %d", r.Duplicates)
	}
	if !r.OK {
		line += " MISSED"
	}
	if len(r.Whys) > 0 {
		line += fmt.Sprintf(" %q", r.Whys)
	}
	return line
}

const (
	// before is how long is sent before the break, of what is judged.
	before = 3 * time.Second
	// settled is for how long all answers must have come from the near cluster, and
	// look how often that is asked.
	settled = 2 * time.Second
	look    = 500 * time.Millisecond
	// backTimeout bounds the wait for that: an endpoint that is left out for 15 s, and
	// again for 30 s when its trial came a moment before the pods were ready, takes
	// its load over in 10 s more.
	backTimeout = 90 * time.Second
)

// Measure makes one fault while both callers send, and judges what they saw.
func (s *Scene) Measure(ctx context.Context, log *slog.Logger, f Fault, load record.Load) ([]Row, error) {
	began := time.Now()
	callers := map[string]*caller{}
	for name, c := range map[string]Cluster{"near": s.Near, "far": s.Far} {
		var err error
		if callers[name], err = s.caller(ctx, c); err != nil {
			return nil, err
		}
		if err := callers[name].start(ctx, load); err != nil {
			return nil, err
		}
	}
	defer s.forget(callers)

	if err := s.ready(ctx, log, callers); err != nil {
		return nil, err
	}
	from := time.Now().Add(-settled) // what came before that does not count
	if _, err := s.duplicates(ctx); err != nil {
		return nil, err
	}
	if err := pause(ctx, time.Until(from.Add(before))); err != nil {
		return nil, err
	}

	at, err := s.breakAndHeal(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	at.From = from
	if f.TakesCaller {
		delete(callers, "near")
	}
	if !s.near(ctx, callers, backTimeout) {
		log.Warn("the calls are not near after the fault", "fault", f.Name)
	}
	log.Info("time spent", "model", s.Model, "fault", f.Name, "until ready", from.Sub(began).Round(time.Second),
		"broken", at.Healed.Sub(at.Broke).Round(time.Second), "until near", time.Since(at.Healed).Round(time.Second))
	return s.rows(ctx, f, callers, at)
}

// breakAndHeal makes the fault; whatever comes, it is taken back.
func (s *Scene) breakAndHeal(ctx context.Context, f Fault) (Times, error) {
	var err error
	if f.Prepare != nil {
		err = f.Prepare(ctx, s)
	}
	at := Times{Broke: time.Now()}
	if err == nil {
		err = f.Break(ctx, s)
	}
	if err == nil {
		err = pause(ctx, f.Hold)
	}
	err = errors.Join(err, f.Heal(context.WithoutCancel(ctx), s))
	at.Healed = time.Now()
	return at, err
}

// forget ends what callers still send, when a run was broken off.
func (s *Scene) forget(callers map[string]*caller) {
	for _, c := range callers {
		_, _ = c.stop(context.Background())
	}
}

// readyTimeout bounds the wait for the calls to be near before a fault: what the
// fault before it left behind is over by then.
const readyTimeout = time.Minute

// ready waits until there is something that can break: calls that fail before the
// fault would be taken for its doing.
func (s *Scene) ready(ctx context.Context, log *slog.Logger, callers map[string]*caller) error {
	if s.near(ctx, callers, readyTimeout) {
		return nil
	}
	for name, c := range callers {
		r, err := c.recent(ctx, settled)
		if err != nil {
			return err
		}
		if r.Failed > 0 || r.Sent == 0 {
			return fmt.Errorf("before the fault, %d of %d calls of the %s caller failed: find out why, or send fewer", r.Failed, r.Sent, name)
		}
		log.Warn("the calls are not near before the fault", "caller", name, "answered by", r.By)
	}
	return nil
}

// near waits until all callers are answered by the near cluster alone.
func (s *Scene) near(ctx context.Context, callers map[string]*caller, within time.Duration) bool {
	wait := settled
	for limit := time.Now().Add(within); time.Now().Before(limit); wait = look {
		if pause(ctx, wait) != nil {
			return false
		}
		all := true
		for _, c := range callers {
			r, err := c.recent(ctx, settled)
			all = all && err == nil && r.Sent > 0 && r.By[s.Near.Context] == r.Sent
		}
		if all {
			return true
		}
	}
	return false
}

// rows gathers what the callers saw and holds it against the bar.
func (s *Scene) rows(ctx context.Context, f Fault, callers map[string]*caller, at Times) ([]Row, error) {
	runs := map[string]record.Run{}
	for name, c := range callers {
		run, err := c.stop(ctx)
		if err != nil {
			return nil, err
		}
		runs[name] = since(run, at.From)
		delete(callers, name)
	}
	twice, err := s.duplicates(ctx)
	if err != nil {
		return nil, err
	}

	if err := s.keep(f, runs, at); err != nil {
		return nil, err
	}

	var rows []Row
	for _, name := range []string{"near", "far"} {
		for _, method := range []string{"GET", "POST"} {
			list := runs[name][method]
			if len(list) == 0 {
				continue
			}
			row := newRow(judge(list, s.Near.Context, at), f.Bar)
			row.Fault, row.Model, row.Caller, row.Method = f.Name, s.Model, name, method
			if method == "POST" {
				row.Duplicates, row.Bar, row.OK = twice, "none twice", twice == 0
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// since are the requests of a run that were due at from or later.
func since(run record.Run, from time.Time) record.Run {
	out := record.Run{}
	for method, list := range run {
		for _, r := range list {
			if !r.Due.Before(from) {
				out[method] = append(out[method], r)
			}
		}
	}
	return out
}

// keep writes what became of each request, for who wants to know more of it than
// the figures: one file for a fault, times in milliseconds since it.
func (s *Scene) keep(f Fault, runs map[string]record.Run, at Times) error {
	if s.Records == "" {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# healed after %.1f ms\n# caller method due took status by why\n", milliseconds(at.Healed.Sub(at.Broke)))
	for name, run := range runs {
		for method, list := range run {
			for i := range list {
				r := &list[i]
				fmt.Fprintf(&b, "%s %s %.1f %.1f %d %s %q\n", name, method, milliseconds(r.Due.Sub(at.Broke)), milliseconds(r.Took), r.Status, r.By, r.Why)
			}
		}
	}
	file := strings.Map(func(c rune) rune {
		if c == ' ' || c == '/' {
			return '-'
		}
		return c
	}, string(s.Model)+" "+f.Name)
	return os.WriteFile(filepath.Join(s.Records, file+".txt"), []byte(b.String()), 0o644)
}

// duplicates counts the POSTs that were acted on more than once since it was last
// asked.
func (s *Scene) duplicates(ctx context.Context) (int, error) {
	var lists [2]string
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range []Cluster{s.Near, s.Far} {
		g.Go(func() (err error) {
			lists[i], err = s.acted(ctx, c)
			return err
		})
	}
	err := g.Wait()
	return duplicates(lists[:]...), err
}

// newRow puts figures into a row. A POST that may have been acted on is not sent
// again, so that some fail: what counts there is that none is acted on twice.
func newRow(f Figures, bar Bar) Row {
	row := Row{
		Sent: f.Sent, Failed: f.Failed, SlowestMS: milliseconds(f.Slowest), SlowestBeforeMS: milliseconds(f.SlowestBefore),
		LastAffectedMS: milliseconds(f.LastAffected), BackMS: milliseconds(f.Back), Whys: f.Whys, Bar: bar.String(),
	}
	if !f.Near {
		row.BackMS = -1
	}
	limit := bar.Slowest
	if bar.OverBefore {
		limit += f.SlowestBefore
	}
	row.OK = float64(f.Failed) <= bar.Failed*float64(f.Sent) && (bar.Slowest == 0 || f.Slowest <= limit)
	if bar.Over > 0 {
		row.OK = f.LastAffected <= bar.Over
	}
	return row
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}
