package clusters

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig is a harmless one, changed.
func kubeconfig(t *testing.T, change func(c *clientcmdapi.Config)) []byte {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://192.0.2.1:6443"}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "t"}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	if change != nil {
		change(c)
	}
	out, err := clientcmd.Write(*c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseKubeconfig(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(c *clientcmdapi.Config)
		allowed []Option
		raw     string
		says    string // empty: it is taken
	}{
		"token": {},
		"one context, not current": {
			change: func(c *clientcmdapi.Config) { c.CurrentContext = "" },
		},
		"several contexts, none current": {
			change: func(c *clientcmdapi.Config) { c.CurrentContext, c.Contexts["y"] = "", c.Contexts["x"] },
			says:   "several contexts (x, y)",
		},
		"current context that is not there": {
			change: func(c *clientcmdapi.Config) { c.CurrentContext = "z" },
			says:   `current-context is "z"`,
		},
		"no context": {
			change: func(c *clientcmdapi.Config) { c.CurrentContext = ""; clear(c.Contexts) },
			says:   "no context",
		},
		"cluster that is not there": {
			change: func(c *clientcmdapi.Config) { clear(c.Clusters) },
			says:   `a cluster "c"`,
		},
		"user that is not there": {
			change: func(c *clientcmdapi.Config) { clear(c.AuthInfos) },
			says:   `a user "u"`,
		},
		"empty": {
			raw:  " \n",
			says: "empty",
		},
		"no YAML": {
			raw:  "{[",
			says: "no kubeconfig",
		},
		"server without a host": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].Server = "cluster-2" },
			says:   `"cluster-2" is no address`,
		},
		"server by another scheme": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].Server = "unix:///run/api" },
			says:   "no address of an API server",
		},
		"plaintext": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].Server = "http://192.0.2.1" },
			says:   "KUBECONFIG_OPTIONS=insecureSkipTLSVerify",
		},
		"unproven server": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].InsecureSkipTLSVerify = true },
			says:   "KUBECONFIG_OPTIONS=insecureSkipTLSVerify",
		},
		"unproven server, allowed": {
			change:  func(c *clientcmdapi.Config) { c.Clusters["c"].InsecureSkipTLSVerify = true },
			allowed: []Option{AllowInsecure},
		},
		"proxy": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].ProxyURL = "socks5://192.0.2.2:1080" },
		},
		"proxy by another scheme": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].ProxyURL = "file:///etc/passwd" },
			says:   "proxy-url",
		},
		"program": {
			change: func(c *clientcmdapi.Config) {
				c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
					Command: "/bin/sh", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
				}}
			},
			says: "exec: /bin/sh",
		},
		"program, allowed": {
			change: func(c *clientcmdapi.Config) {
				c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
					Command: "/bin/sh", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
				}}
			},
			allowed: []Option{AllowExec},
		},
		"auth provider": {
			change: func(c *clientcmdapi.Config) {
				c.AuthInfos["u"].AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "gcp"}
			},
			allowed: allOptions,
			says:    `auth-provider "gcp"`,
		},
		"file of the root": {
			change: func(c *clientcmdapi.Config) { c.Clusters["c"].CertificateAuthority = "/etc/ca.pem" },
			says:   "certificate-authority: /etc/ca.pem",
		},
		"file of the token": {
			change: func(c *clientcmdapi.Config) { c.AuthInfos["u"].TokenFile = "/var/run/secrets/token" },
			says:   "tokenFile: /var/run/secrets/token",
		},
		"file of the certificate": {
			change: func(c *clientcmdapi.Config) { c.AuthInfos["u"].ClientCertificate = "/c.pem" },
			says:   "client-certificate: /c.pem",
		},
		"file of the key": {
			change: func(c *clientcmdapi.Config) { c.AuthInfos["u"].ClientKey = "/k.pem" },
			says:   "client-key: /k.pem",
		},
		"file, another one allowed": {
			change:  func(c *clientcmdapi.Config) { c.AuthInfos["u"].ClientKey = "/k.pem" },
			allowed: []Option{AllowTokenFile},
			says:    "KUBECONFIG_OPTIONS=clientKey",
		},
		"token with a line break": {
			change: func(c *clientcmdapi.Config) { c.AuthInfos["u"].Token = "t\n" },
			says:   "blanks",
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(tt.raw)
			if tt.raw == "" {
				raw = kubeconfig(t, tt.change)
			}
			a, err := parseKubeconfig(raw, tt.allowed)
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.says == "" && a == nil:
				t.Error("nothing was read")
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v, want an error that says %q", err, tt.says)
			}
		})
	}
}

func TestParseOptions(t *testing.T) {
	got, err := ParseOptions("exec, tokenFile,")
	if err != nil || !slices.Equal(got, []Option{AllowExec, AllowTokenFile}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseOptions("exce"); err == nil || !strings.Contains(err.Error(), "clientKey") {
		t.Errorf("a misspelled one: %v", err)
	}
}

func TestSameButToken(t *testing.T) {
	read := func(change func(c *clientcmdapi.Config)) *access {
		a, err := parseKubeconfig(kubeconfig(t, change), nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := read(nil)
	if b := read(func(c *clientcmdapi.Config) { c.AuthInfos["u"].Token = "other" }); !a.sameButToken(b) || b.token != "other" {
		t.Error("another token counts as another way")
	}
	for name, change := range map[string]func(c *clientcmdapi.Config){
		"server":      func(c *clientcmdapi.Config) { c.Clusters["c"].Server = "https://192.0.2.9:6443" },
		"root":        func(c *clientcmdapi.Config) { c.Clusters["c"].CertificateAuthorityData = []byte("x") },
		"impersonate": func(c *clientcmdapi.Config) { c.AuthInfos["u"].Impersonate = "x" },
	} {
		if a.sameButToken(read(change)) {
			t.Errorf("another %s counts as the same way", name)
		}
	}
}

// secretOf is a Secret with kubeconfigs, made at some second.
func secretOf(name string, second int64, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: name, Labels: map[string]string{LabelSecret: "true"},
			CreationTimestamp: metav1.NewTime(time.Unix(second, 0)),
		},
		Data: data,
	}
}

func TestChoose(t *testing.T) {
	good := kubeconfig(t, nil)
	bad := []byte("{[")
	for name, tt := range map[string]struct {
		secrets []*corev1.Secret
		chosen  string   // secret/cluster, ...
		refused []string // parts of the texts, in order
	}{
		"several in one": {
			secrets: []*corev1.Secret{secretOf("s", 1, map[string][]byte{"a": good, "b": good})},
			chosen:  "s/a s/b",
		},
		"own name": {
			secrets: []*corev1.Secret{secretOf("s", 1, map[string][]byte{"own": good, "b": good})},
			chosen:  "s/b",
			refused: []string{"runs in"},
		},
		"two of one name: the older counts": {
			secrets: []*corev1.Secret{
				secretOf("a-young", 2, map[string][]byte{"a": good}),
				secretOf("z-old", 1, map[string][]byte{"a": good}),
			},
			chosen:  "z-old/a",
			refused: []string{"by the older Secret z-old"},
		},
		"two of one name, the older of no use": {
			secrets: []*corev1.Secret{
				secretOf("old", 1, map[string][]byte{"a": bad}),
				secretOf("young", 2, map[string][]byte{"a": good}),
			},
			chosen:  "young/a",
			refused: []string{"no kubeconfig"},
		},
		"no data": {
			secrets: []*corev1.Secret{secretOf("s", 1, nil)},
			refused: []string{"no data"},
		},
		"names of no use": {
			secrets: []*corev1.Secret{secretOf("s", 1, map[string][]byte{
				"":                      good,
				"-a":                    good,
				strings.Repeat("a", 64): good,
			})},
			refused: []string{"no name of a cluster", "no name of a cluster", "no name of a cluster"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, refused := choose(tt.secrets, "own", nil)
			var got []string
			for id, c := range chosen {
				got = append(got, c.secret.Name+"/"+string(id))
			}
			slices.Sort(got)
			if text := strings.Join(got, " "); text != tt.chosen {
				t.Errorf("chosen %q, want %q", text, tt.chosen)
			}
			if len(refused) != len(tt.refused) {
				t.Fatalf("refused %v", refused)
			}
			for i, c := range refused {
				if !strings.Contains(c.refused.Error(), tt.refused[i]) {
					t.Errorf("refused with %q, want %q", c.refused, tt.refused[i])
				}
			}
		})
	}
}
