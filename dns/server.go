package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"

	// The plugins that a Corefile for this server may use. Each registers
	// itself with CoreDNS.
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/version"
)

// Config of a Server.
type Config struct {
	// Names is the table that answers come from.
	Names *Names
	// CorefilePath names a Corefile; without one, Corefile() of the fields
	// below is used.
	CorefilePath string
	// Listen is the port of the DNS itself; default 10053.
	Listen int
	// Zones that the server has the last word for; default "global".
	Zones []string
	// Forward names a resolver ("10.0.0.10", "/etc/resolv.conf") for
	// questions that are not for the mesh. Without one they are refused.
	Forward string
}

// Validate checks the configuration and fills in its defaults.
func (c *Config) Validate() error {
	if c.Names == nil {
		return errors.New("dns: no table of names")
	}
	if c.Listen == 0 {
		c.Listen = 10053
	}
	if c.Listen < 0 || c.Listen > 65535 {
		return fmt.Errorf("dns: port %d is not between 1 and 65535", c.Listen)
	}
	if len(c.Zones) == 0 {
		c.Zones = []string{api.DefaultGlobalDomain}
	}

	// They are put into the text of a Corefile.
	for _, z := range append([]string{c.Forward}, c.Zones...) {
		if strings.ContainsAny(z, " \t\r\n{}\"#") {
			return fmt.Errorf("dns: %q is neither a zone nor a resolver", z)
		}
	}
	return nil
}

// Corefile is the configuration that is used when none is given.
func (c *Config) Corefile() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".:%d {\n    errors\n    health :8080\n    ready :8181\n    prometheus :9153\n", c.Listen)
	fmt.Fprintf(&b, "    isthmus %s\n", strings.Join(c.Zones, " "))
	if c.Forward != "" {
		fmt.Fprintf(&b, "    cache 30\n    forward . %s\n", c.Forward)
	}
	b.WriteString("}\n")
	return b.String()
}

// directives are the plugins in the order in which they see a query. The names
// of the mesh come before the cache: they are answered from memory anyway, and
// a change shows at once.
func directives() []string {
	return []string{"reload", "ready", "health", "prometheus", "errors", "log", pluginName, "cache", "forward"}
}

// Run serves DNS until the context ends. CoreDNS keeps its registries in the
// process, so Run may be called once.
func Run(ctx context.Context, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}

	load := caddy.LoaderFunc(func(serverType string) (caddy.Input, error) {
		text, path := []byte(c.Corefile()), "built-in Corefile"
		if c.CorefilePath != "" {
			var err error
			if text, err = os.ReadFile(c.CorefilePath); err != nil {
				return nil, err
			}
			path = c.CorefilePath
		}
		return caddy.CaddyfileInput{Contents: text, Filepath: path, ServerTypeName: serverType}, nil
	})

	// The only way to tell CoreDNS: all of it is in variables of its packages.
	caddy.Quiet, dnsserver.Quiet = true, true
	caddy.AppName, caddy.AppVersion = "isthmus-dns", version.Version
	dnsserver.Directives = directives()
	caddy.RegisterPlugin(pluginName, caddy.Plugin{ServerType: "dns", Action: setup(c.Names)})
	caddy.SetDefaultCaddyfileLoader("isthmus", load) // what the reload plugin reads again

	input, err := load.Load("dns")
	if err != nil {
		return fmt.Errorf("dns: read the Corefile: %w", err)
	}
	if _, err := caddy.Start(input); err != nil {
		return fmt.Errorf("dns: start with %s: %w", input.Path(), err)
	}
	<-ctx.Done()

	// A reload replaces the instance, so those that run now are stopped.
	var errs []error
	for _, inst := range append([]*caddy.Instance(nil), caddy.Instances()...) {
		errs = append(errs, inst.ShutdownCallbacks()...)
		errs = append(errs, inst.Stop())
	}
	return errors.Join(errs...)
}
