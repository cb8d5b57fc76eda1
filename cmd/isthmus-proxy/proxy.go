package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/proxy/agent"
	"github.com/isthmus-mesh/isthmus/proxy/telemetry"
)

const (
	// defaultDrain is how long connections get to end after SIGTERM, as in Istio.
	defaultDrain = 5 * time.Second
	// gatewayDrain is how long a gateway waits for those that are busy, at most,
	// unless terminationDrainDuration is set: it fits into the 30 s that
	// Kubernetes gives a pod.
	gatewayDrain = 20 * time.Second
)

func runSidecar(ctx context.Context, c *call) error { return runProxy(ctx, c, agent.Sidecar) }
func runRouter(ctx context.Context, c *call) error  { return runProxy(ctx, c, agent.Router) }

func runProxy(ctx context.Context, c *call, kind agent.Kind) error {
	var s settings
	s.bind(c)
	if err := c.parse(0); err != nil {
		return err
	}

	pc, err := parseProxyConfig(s.proxyConfig)
	if err != nil {
		return err
	}
	tuneRuntime(pc.Concurrency, c.env)

	cfg, err := s.agentConfig(kind, pc)
	if err != nil {
		return err
	}
	if cfg.Identity, err = agent.NewIdentity(cfg); err != nil {
		return err
	}

	self, err := party(cfg)
	if err != nil {
		return err
	}
	limit, err := s.connectionLimit(os.DirFS("/"))
	if err != nil {
		return err
	}
	cfg.Logger.Info("connections are bounded", "limit", limit)

	p, err := proxy.New(proxy.Config{
		Identity:       cfg.Identity,
		Self:           self,
		Registerer:     cfg.Registry,
		Logger:         cfg.Logger.With("part", "proxy"),
		MaxConnections: limit,
	})
	if err != nil {
		return err
	}

	cfg.Engine = engine{p}
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// agentConfig joins flags, environment and proxy-config.
func (s *settings) agentConfig(kind agent.Kind, pc proxyConfig) (agent.Config, error) {
	log, level, err := s.logger()
	if err != nil {
		return agent.Config{}, err
	}
	if s.certProvider != "istiod" {
		return agent.Config{}, fmt.Errorf("cert-provider %q: only istiod is known", s.certProvider)
	}

	token, err := s.token()
	if err != nil {
		return agent.Config{}, err
	}
	ip, err := s.address()
	if err != nil {
		return agent.Config{}, err
	}

	probers, err := agent.ParseProbers(s.probers)
	if err != nil {
		return agent.Config{}, err
	}
	scrape, err := agent.ParseScrape(s.scrape)
	if err != nil {
		return agent.Config{}, err
	}

	meta := metadata(os.Environ())
	if s.nodeName != "" {
		meta["NODE_NAME"] = s.nodeName
	}

	names, err := s.nameServer(kind)
	if err != nil {
		return agent.Config{}, err
	}

	cfg := agent.Config{
		Kind: kind, Pod: s.pod, Namespace: s.namespace, ServiceAccount: cmp.Or(s.serviceAccount, "default"),
		TrustDomain: s.trustDomain, IP: ip, DNSDomain: s.dnsDomain, Meta: meta, LabelsFile: s.labelsFile,
		Discovery: cmp.Or(s.discovery, pc.DiscoveryAddress, agent.DefaultDiscovery), CA: s.ca, ServerName: s.serverName,
		TokenFile: token, RootFile: s.rootFile, StateDir: s.stateDir,
		DNS: names, Probers: probers, Scrape: scrape, DrainFor: defaultDrain, Ports: agent.DefaultPorts(),
		Logger: log, Level: level, Registry: prometheus.NewRegistry(),
	}
	return cfg, s.drainTimes(&cfg, pc)
}

// drainTimes says how the proxy ends.
func (s *settings) drainTimes(cfg *agent.Config, pc proxyConfig) error {
	if d := pc.TerminationDrainDuration.set; d != nil {
		cfg.DrainFor = *d
	}
	native, err := parseSwitch("native", s.native)
	if err != nil {
		return err
	}
	if cfg.DrainUntilIdle, err = parseSwitch("exit-on-zero-active-connections", s.untilIdle); err != nil {
		return err
	}
	least, err := time.ParseDuration(s.drainAtLeast)
	if err != nil || least < 0 {
		return fmt.Errorf("minimum-drain-duration %q: want a duration like 5s", s.drainAtLeast)
	}
	if cfg.StopDelay, err = time.ParseDuration(s.stopDelay); err != nil || cfg.StopDelay < 0 {
		return fmt.Errorf("application-stop-delay %q: want a duration like 2s", s.stopDelay)
	}
	if cfg.Kind == agent.Sidecar && !native {
		cfg.AppListens = appListens
	}

	// Before a gateway there may be a load balancer that looks only now and
	// then. A plain sidecar gets its SIGTERM together with the application,
	// which may have no connection at the moment and yet make calls before it
	// ends; it is waited for as long as it has a port open. A native one outlives the application: only callers that have not
	// yet heard of the end are left.
	cfg.DrainAtLeast = cfg.DrainFor
	switch {
	case cfg.DrainUntilIdle:
		cfg.DrainAtLeast = least
	case cfg.Kind == agent.Router && pc.TerminationDrainDuration.set == nil:
		cfg.DrainFor = gatewayDrain
	case cfg.Kind == agent.Sidecar && native:
		cfg.DrainAtLeast = time.Second
	}
	return nil
}

// appListens tells whether the pod has ports open that are not the proxy's.
func appListens() (bool, error) { return agent.AppListens(os.DirFS("/proc/net"), os.Getuid()) }

// parseSwitch reads the value of a flag that an environment variable may give.
func parseSwitch(flag, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s %q: want true or false", flag, value)
	}
	return b, nil
}

// party is the workload as telemetry names it.
func party(cfg agent.Config) (telemetry.Party, error) {
	labels, err := agent.ReadLabels(cfg.LabelsFile)
	if err != nil {
		return telemetry.Party{}, err
	}
	return telemetry.Party{
		Workload:  cmp.Or(cfg.Meta["WORKLOAD_NAME"], cfg.Pod),
		Namespace: cfg.Namespace,
		App:       cmp.Or(labels["app"], labels["app.kubernetes.io/name"], labels["service.istio.io/canonical-name"]),
		Version:   cmp.Or(labels["version"], labels["app.kubernetes.io/version"], labels["service.istio.io/canonical-revision"]),
		Cluster:   cfg.Meta["CLUSTER_ID"],
		Principal: cfg.ID().String(),
	}, nil
}

// tuneRuntime bounds what the proxy takes of the node: two processors unless
// told otherwise (0 is all), and a heap that is collected early, since memory is
// paid for in every pod. GOMAXPROCS and GOGC in the environment count for more.
func tuneRuntime(concurrency *int, env func(string) (string, bool)) {
	if _, set := env("GOMAXPROCS"); !set {
		n := 2
		if concurrency != nil {
			n = *concurrency
		}
		if n > 0 {
			runtime.GOMAXPROCS(min(n, runtime.NumCPU()))
		}
	}
	if _, set := env("GOGC"); !set {
		debug.SetGCPercent(60)
	}
}
