package clusters

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Option is something that kubeconfigs in Secrets may only have when the operator
// allows it, by the name that Istio gives it where Istio knows it.
type Option string

// The options.
const (
	// AllowExec: a kubeconfig may name a program, which istiod runs.
	AllowExec Option = "exec"
	// A kubeconfig may name files, which istiod reads.
	AllowTokenFile            Option = "tokenFile"
	AllowClientCertificate    Option = "clientCertificate"
	AllowClientKey            Option = "clientKey"
	AllowCertificateAuthority Option = "certificateAuthority"
	// AllowInsecure: a kubeconfig may leave the server unproven
	// (insecure-skip-tls-verify, or a server at http://): whoever is in between
	// learns the token, and says what is in the cluster.
	AllowInsecure Option = "insecureSkipTLSVerify"
)

var allOptions = []Option{AllowExec, AllowTokenFile, AllowClientCertificate, AllowClientKey, AllowCertificateAuthority, AllowInsecure}

// ParseOptions reads a list of options, separated by commas.
func ParseOptions(text string) ([]Option, error) {
	var out []Option
	for part := range strings.SplitSeq(text, ",") {
		o := Option(strings.TrimSpace(part))
		if o == "" {
			continue
		}
		if !slices.Contains(allOptions, o) {
			return nil, fmt.Errorf("%q is none of the options that a kubeconfig may be allowed: %v", o, allOptions)
		}
		out = append(out, o)
	}
	return out, nil
}

// access is how a cluster is reached: the part of a kubeconfig that counts.
type access struct {
	// user is the name of the entry that the token is in.
	user    string
	cluster clientcmdapi.Cluster
	auth    clientcmdapi.AuthInfo // without the token
	token   string
}

// sameButToken tells whether two differ in nothing but the token, so that a
// connection made by one serves the other.
func (a *access) sameButToken(b *access) bool {
	return reflect.DeepEqual(&a.cluster, &b.cluster) && reflect.DeepEqual(&a.auth, &b.auth)
}

// config is what clients are made from; it has no token.
func (a *access) config() (*rest.Config, error) {
	c := clientcmdapi.NewConfig()
	c.Clusters["c"], c.AuthInfos["u"] = &a.cluster, &a.auth
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	return clientcmd.NewDefaultClientConfig(*c, &clientcmd.ConfigOverrides{CurrentContext: "x"}).ClientConfig()
}

// parseKubeconfig reads a kubeconfig and refuses what it may not have.
func parseKubeconfig(raw []byte, allowed []Option) (*access, error) {
	if len(strings.TrimSpace(string(raw))) == 0 {
		return nil, errors.New("the kubeconfig is empty")
	}
	c, err := clientcmd.Load(raw)
	if err != nil {
		return nil, fmt.Errorf("this is no kubeconfig: %w", err)
	}
	context, err := currentContext(c)
	if err != nil {
		return nil, err
	}

	cluster, auth := c.Clusters[context.Cluster], c.AuthInfos[context.AuthInfo]
	switch {
	case cluster == nil:
		return nil, fmt.Errorf("the context names a cluster %q, which the kubeconfig does not have", context.Cluster)
	case auth == nil:
		return nil, fmt.Errorf("the context names a user %q, which the kubeconfig does not have", context.AuthInfo)
	}
	if err := errors.Join(checkCluster(cluster, allowed), checkUser(auth, allowed)); err != nil {
		return nil, err
	}

	a := &access{user: context.AuthInfo, cluster: *cluster, auth: *auth, token: auth.Token}
	a.auth.Token = ""
	if a.token != strings.TrimSpace(a.token) {
		return nil, errors.New("the token has blanks around it: write it without")
	}
	if _, err := a.config(); err != nil {
		return nil, err
	}
	return a, nil
}

// currentContext is the one that counts.
func currentContext(c *clientcmdapi.Config) (*clientcmdapi.Context, error) {
	if c.CurrentContext != "" {
		if x := c.Contexts[c.CurrentContext]; x != nil {
			return x, nil
		}
		return nil, fmt.Errorf("current-context is %q, which the kubeconfig does not have", c.CurrentContext)
	}

	names := slices.Sorted(maps.Keys(c.Contexts))
	switch len(names) {
	case 0:
		return nil, errors.New("the kubeconfig has no context")
	case 1:
		return c.Contexts[names[0]], nil
	}
	return nil, fmt.Errorf("the kubeconfig has several contexts (%s) and no current-context: say which one counts", strings.Join(names, ", "))
}

// need refuses what is there and not allowed.
func need(allowed []Option, o Option, there bool, what string) error {
	if !there || slices.Contains(allowed, o) {
		return nil
	}
	return fmt.Errorf("%s, which a kubeconfig in a Secret may not: use a token and certificates within it, as create-remote-secret writes them; "+
		"or let it, by PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS=%s (values.pilot.env) or --insecure-kubeconfig-options of discovery", what, o)
}

func checkCluster(c *clientcmdapi.Cluster, allowed []Option) error {
	server, err := url.Parse(c.Server)
	if err != nil || server.Host == "" || server.Scheme != "https" && server.Scheme != "http" {
		return fmt.Errorf("server %q is no address of an API server: https://HOST:PORT is expected", c.Server)
	}

	var proxy error
	if c.ProxyURL != "" {
		p, err := url.Parse(c.ProxyURL)
		if err != nil || p.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, p.Scheme) {
			proxy = fmt.Errorf("proxy-url %q is none that is understood: http://, https:// or socks5:// is expected", c.ProxyURL)
		}
	}
	return errors.Join(proxy,
		need(allowed, AllowInsecure, server.Scheme == "http", "its server is at http://, where anybody in between reads the token"),
		need(allowed, AllowInsecure, c.InsecureSkipTLSVerify, "it leaves the server unproven (insecure-skip-tls-verify)"),
		need(allowed, AllowCertificateAuthority, c.CertificateAuthority != "",
			fmt.Sprintf("it names a file (certificate-authority: %s)", c.CertificateAuthority)),
	)
}

func checkUser(u *clientcmdapi.AuthInfo, allowed []Option) error {
	var provider error
	if u.AuthProvider != nil {
		provider = fmt.Errorf("auth-provider %q is not known to Kubernetes clients any more: use a token, as create-remote-secret writes it", u.AuthProvider.Name)
	}
	program := ""
	if u.Exec != nil {
		program = u.Exec.Command
	}
	return errors.Join(provider,
		need(allowed, AllowExec, u.Exec != nil, fmt.Sprintf("it runs a program (exec: %s)", program)),
		need(allowed, AllowTokenFile, u.TokenFile != "", fmt.Sprintf("it names a file (tokenFile: %s)", u.TokenFile)),
		need(allowed, AllowClientCertificate, u.ClientCertificate != "", fmt.Sprintf("it names a file (client-certificate: %s)", u.ClientCertificate)),
		need(allowed, AllowClientKey, u.ClientKey != "", fmt.Sprintf("it names a file (client-key: %s)", u.ClientKey)),
	)
}
