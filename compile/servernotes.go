package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// caSuffix ends the name of a Secret with the roots for the one without it.
const caSuffix = "-cacert"

// ServerNotes says of Gateways, all of a cluster, by their key, which of their servers for
// HTTPS serve nothing, or not all of their hosts: their Secret is missing or of no use, or
// another server has a host on that port. credential finds a Secret; nil: there is none.
func ServerNotes(all []*model.Gateway, credential func(name string) *model.Credential) map[string][]string {
	out := map[string][]string{}
	taken := map[servedAt]string{}
	for _, g := range slices.SortedFunc(slices.Values(all), (*model.Gateway).CompareAge) {
		addf := func(i int, field, format string, args ...any) {
			if list := out[g.Key()]; len(list) < maxNotes {
				out[g.Key()] = append(list, fmt.Sprintf("spec.servers[%d].%s: ", i, field)+fmt.Sprintf(format, args...))
			}
		}
		for i := range g.Servers {
			s := &g.Servers[i]
			if s.Mode != model.ServeHTTPS {
				continue
			}
			if why := credentialMissing(s, credential); why != "" {
				addf(i, "tls.credentialName", "%s: until then TLS handshakes for its hosts are refused", why)
			}
			for j, h := range s.Hosts {
				at := servedAt{labelsText(g.Selector), h[strings.IndexByte(h, '/')+1:], s.Port}
				if owner, has := taken[at]; has && owner != fmt.Sprint(g.Key(), i) {
					addf(i, fmt.Sprintf("hosts[%d]", j), "%q on port %d is served over TLS by an older Gateway, or an earlier server", at.host, s.Port)
					continue
				}
				taken[at] = fmt.Sprint(g.Key(), i)
			}
		}
	}
	return out
}

// credentialMissing says what a server lacks; empty: nothing.
func credentialMissing(s *model.GatewayServer, credential func(string) *model.Credential) string {
	name := s.TLS.Credential
	c := credential(name)
	switch {
	case c == nil:
		return fmt.Sprintf("there is no Secret %q with tls.crt and tls.key in the control plane's namespace", name)
	case c.Problem != "":
		return fmt.Sprintf("Secret %q: %s", name, c.Problem)
	case len(c.Certificate) == 0:
		return fmt.Sprintf("Secret %q has no tls.crt and tls.key", name)
	case s.TLS.Client == model.ClientCertNone || len(c.Roots) > 0:
		return ""
	}
	if ca := credential(name + caSuffix); ca != nil && len(ca.Roots) > 0 {
		return ""
	}
	return fmt.Sprintf("neither Secret %q nor %q has ca.crt, by which clients' certificates are judged", name, name+caSuffix)
}
