package failover

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/bench/failover/record"
)

// Options say what to measure.
type Options struct {
	// Lab is the name of the lab; Root is the repository, whose bin and
	// dist/images are built.
	Lab, Root string
	// Dir is for files that are of no use afterwards.
	Dir string
	// Running says that the lab is there, with the mesh's images loaded; if a mesh
	// is in it, that is the one model in Models. Keep leaves all that there is at the end.
	Running, Keep bool
	Models        []Model
	Faults        []Fault
	// Checks asks for the shares of calls and the requests that retries add.
	Checks bool
	// Records is a directory for what became of each request; none if empty.
	Records string
	// Where is the machine and the time, in words, for the report.
	Where string
	// Rates are requests per second of each caller, by method; StormRate is that of
	// the one caller in the check of retries.
	Rates     map[string]float64
	StormRate float64
}

// Run measures every fault in every model. Whatever comes, the lab that it has
// started is gone when it returns.
func Run(ctx context.Context, log *slog.Logger, o Options) (rep *Report, err error) {
	began := time.Now()
	traffic, archive, err := Pack(ctx, o.Root, o.Dir)
	if err != nil {
		return nil, err
	}

	bin := filepath.Join(o.Root, "bin")
	host := &Lab{Name: o.Lab, Root: o.Root, Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "LAB=" + o.Lab}}
	if !o.Keep {
		defer func() {
			_, downErr := host.Run(context.WithoutCancel(ctx), `lab --name "$LAB" down`)
			if err == nil {
				err = downErr
			}
		}()
	}
	if !o.Running {
		if _, err := host.Run(ctx, startLab); err != nil {
			return nil, err
		}
	}
	if _, err := host.Run(ctx, `lab --name "$LAB" load-image "$ARCHIVE"`, "ARCHIVE="+archive); err != nil {
		return nil, err
	}
	lab, err := Open(ctx, o.Lab, o.Root, traffic)
	if err != nil {
		return nil, err
	}

	log.Info("the lab is up", "took", time.Since(began).Round(time.Second))

	rep = &Report{Where: o.Where, Rates: o.Rates}
	for i, m := range o.Models {
		last := i == len(o.Models)-1
		if err := runModel(ctx, log, lab, m, o, last, rep); err != nil {
			return rep, err
		}
	}
	log.Info("all is measured", "took", time.Since(began).Round(time.Second))
	return rep, nil
}

// startLab starts a lab of two clusters that nobody planned together, and loads
// the mesh's images.
const startLab = `lab --name "$LAB" down
lab --name "$LAB" up --clusters 2 --network multi --same-ranges
lab --name "$LAB" load-image dist/images/*.tar`

// runModel measures everything in one model. The mesh of the last one goes with the lab.
func runModel(ctx context.Context, log *slog.Logger, lab *Lab, m Model, o Options, last bool, rep *Report) error {
	began := time.Now()
	scene := NewScene(lab, m)
	scene.Records, scene.StormRate = o.Records, o.StormRate
	if !o.Keep && !last {
		defer func() {
			if err := scene.Uninstall(context.WithoutCancel(ctx)); err != nil {
				log.Warn("the mesh could not be taken out", "error", err)
			}
		}()
	}
	if !o.Running || !scene.installed(ctx) {
		if err := scene.Install(ctx, o.Dir); err != nil {
			return err
		}
	}
	if err := scene.Deploy(ctx); err != nil {
		return err
	}
	log.Info("set up", "model", m, "took", time.Since(began).Round(time.Second))

	load := record.Load{URL: scene.URL, Rates: o.Rates, Timeout: giveUp}
	if o.Checks {
		for _, check := range []func(context.Context, record.Load) ([]Check, error){scene.Shares, scene.Storm} {
			began := time.Now()
			got, err := check(ctx, load)
			if err != nil {
				return fmt.Errorf("model %s: %w", m, err)
			}
			rep.Checks = append(rep.Checks, got...)
			for i := range got {
				log.Info(got[i].String(), "took", time.Since(began).Round(time.Second))
			}
		}
	}
	return scene.faults(ctx, log, load, o.Faults, rep)
}

// faults measures one fault after the other.
func (s *Scene) faults(ctx context.Context, log *slog.Logger, load record.Load, faults []Fault, rep *Report) error {
	for _, f := range faults {
		began := time.Now()
		got, err := s.Measure(ctx, log, f, load)
		if err != nil {
			return fmt.Errorf("model %s, fault %q: %w", s.Model, f.Name, err)
		}
		rep.Rows = append(rep.Rows, got...)
		for i := range got {
			log.Info(got[i].String(), "took", time.Since(began).Round(time.Second))
		}
	}
	return nil
}

// giveUp is when a caller takes a request for lost: more than any bar allows.
const giveUp = 5 * time.Second
