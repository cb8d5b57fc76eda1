package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/bench/controlplane"
	"github.com/isthmus-mesh/isthmus/bench/fleet"
	"github.com/isthmus-mesh/isthmus/test/rig/meter"
)

type proxiesFlags struct {
	address, namespace, cluster, tokenFile, rootFile, serverName string
	count, pid                                                   int
	timeout, stay                                                time.Duration
}

// newProxiesCommand puts simulated proxies on any ADS server.
func newProxiesCommand() *cobra.Command {
	var f proxiesFlags
	cmd := &cobra.Command{
		Use: "proxies", Short: "Connect simulated proxies to an ADS server, and tell when they have everything", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runProxies(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.address, "address", "", "HOST:PORT of the server")
	fl.IntVar(&f.count, "count", 100, "number of proxies")
	fl.StringVar(&f.namespace, "namespace", "default", "namespace of the proxies")
	fl.StringVar(&f.cluster, "cluster", "Kubernetes", "cluster id of the proxies")
	fl.StringVar(&f.rootFile, "root-file", "", "trust bundle; with it the connections use TLS")
	fl.StringVar(&f.serverName, "server-name", "istiod.istio-system.svc", "name in the server's certificate")
	fl.StringVar(&f.tokenFile, "token-file", "", "service account token that the proxies show")
	fl.IntVar(&f.pid, "pid", 0, "process of the server on this machine, to measure")
	fl.DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long to wait for all")
	fl.DurationVar(&f.stay, "stay", 0, "how long to stay connected, telling of pushes each second")
	if err := cmd.MarkFlagRequired("address"); err != nil {
		panic(err) // the flag is declared above
	}
	return cmd
}

func runProxies(ctx context.Context, f proxiesFlags) error {
	cfg := fleet.Config{Address: f.address, Count: f.count, Node: controlplane.Node(f.namespace, f.cluster)}
	if f.rootFile != "" {
		roots, err := os.ReadFile(f.rootFile)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(roots) {
			return fmt.Errorf("%s holds no certificate", f.rootFile)
		}
		cfg.TLS = &tls.Config{RootCAs: pool, ServerName: f.serverName, MinVersion: tls.VersionTLS12}
	}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return err
		}
		cfg.Token = strings.TrimSpace(string(token))
	}
	if _, _, err := net.SplitHostPort(f.address); err != nil {
		return fmt.Errorf("--address: %w", err)
	}
	cpu := func() time.Duration { return 0 }
	if f.pid != 0 {
		if _, err := meter.CPU(f.pid); err != nil {
			return err
		}
		cpu = func() time.Duration { d, _ := meter.CPU(f.pid); return d }
	}
	ctx, stop := context.WithCancel(ctx)
	before, began := cpu(), time.Now()
	fl, gone := fleet.Start(ctx, cfg)
	defer func() {
		stop()
		<-gone
	}()
	limit, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	at, err := fl.Synced(limit)
	if err != nil {
		return err
	}
	t := fl.Traffic()
	fmt.Printf("%d proxies in sync after %.2f s; %.2f MB and %d pushes each; %d streams opened; server CPU %.2f s\n",
		f.count, at.Sub(began).Seconds(), float64(t.Bytes)/float64(f.count)/1e6, t.Pushes/int64(f.count), t.Connects, (cpu() - before).Seconds())
	return watchPushes(ctx, f, fl, cpu)
}

// watchPushes tells each second what came, until the time is over.
func watchPushes(ctx context.Context, f proxiesFlags, fl *fleet.Fleet, cpu func() time.Duration) error {
	end := time.Now().Add(f.stay)
	for time.Now().Before(end) {
		t, c := fl.Traffic(), cpu()
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err())
		case <-time.After(time.Second):
		}
		if d := fl.Traffic().Sub(t); d.Pushes > 0 {
			fmt.Printf("%s: %d pushes, %.1f kB per proxy, server CPU %.1f ms\n", time.Now().Format(time.TimeOnly),
				d.Pushes, float64(d.Bytes)/float64(f.count)/1e3, float64(cpu()-c)/float64(time.Millisecond))
		}
	}
	return nil
}
