package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// caSuffix ends the name of a Secret with the roots for the one without it.
const caSuffix = "-cacert"

// ServerNotes says of Gateways, all of a cluster, by their key, which of their servers
// serve nothing, or not all of their hosts: their Secret is missing or of no use, or
// another server has the port, or a host on it. credential finds a Secret; nil: there is none.
func ServerNotes(all []*model.Gateway, credential func(name string) *model.Credential) map[string][]string {
	out := map[string][]string{}
	taken := map[servedAt]tlsOwner{}
	ports := map[servedAt]portOwner{}

	for _, g := range slices.SortedFunc(slices.Values(all), (*model.Gateway).CompareAge) {
		addf := func(i int, field, format string, args ...any) {
			if list := out[g.Key()]; len(list) < maxNotes {
				out[g.Key()] = append(list, fmt.Sprintf("spec.servers[%d].%s: ", i, field)+fmt.Sprintf(format, args...))
			}
		}

		for i := range g.Servers {
			s := &g.Servers[i]

			// The oldest server of a port decides whether TCP takes all of it.
			port := servedAt{labelsText(g.Selector), "", s.Port}
			first, has := ports[port]
			if !has {
				first = portOwner{s.Mode == model.ServeTCP, g.Namespace}
				ports[port] = first
			}
			if takesAll := s.Mode == model.ServeTCP; takesAll != first.takesAll || takesAll && first.namespace != g.Namespace {
				addf(i, "port.number", "%d has a server of an older Gateway, or an earlier one, beside which this one has no place: TCP takes all that comes", s.Port)
				continue
			}
			if !s.Mode.ByServerName() {
				continue
			}

			if why := credentialMissing(s, credential); s.Mode.EndsTLS() && !s.TLS.Mesh && why != "" {
				addf(i, "tls.credentialName", "%s: until then TLS handshakes for its hosts are refused", why)
			}

			// Of a host, only PASSTHROUGH servers of one namespace may share.
			for j, h := range s.Hosts {
				at := servedAt{labelsText(g.Selector), h[strings.IndexByte(h, '/')+1:], s.Port}
				owner, has := taken[at]
				shared := owner.passes && s.Mode == model.PassTLS && owner.namespace == g.Namespace
				if has && !shared && owner.server != fmt.Sprint(g.Key(), i) {
					addf(i, fmt.Sprintf("hosts[%d]", j), "%q on port %d is served over TLS by an older Gateway, or an earlier server", at.host, s.Port)
					continue
				}
				if !has {
					taken[at] = tlsOwner{fmt.Sprint(g.Key(), i), g.Namespace, s.Mode == model.PassTLS}
				}
			}
		}
	}
	return out
}

// tlsOwner is the server that has a host among those that are told apart by server name.
type tlsOwner struct {
	server, namespace string
	passes            bool
}

// portOwner is the first server of a port.
type portOwner struct {
	takesAll  bool
	namespace string
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
