package remotesecret

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/install/apply"
	"github.com/isthmus-mesh/isthmus/install/render"
	"github.com/isthmus-mesh/isthmus/install/values"
)

// What marks a Secret as one by which another cluster is read, as Istio has it.
const (
	// Label has the value "true".
	Label = "istio/multiCluster"
	// ClusterAnnotation has the name of the cluster, for people.
	ClusterAnnotation = "networking.istio.io/cluster"
	// namePrefix begins the Secret's name.
	namePrefix = "istio-remote-secret-"
)

// shortestToken is the shortest life of a token that an API server grants.
const shortestToken = 10 * time.Minute

// Options say what Secret is wanted.
type Options struct {
	// Name is the cluster's; when empty, what the istiod there calls it, else
	// the UID of its namespace kube-system.
	Name string
	// Namespace is the control plane's, in both clusters.
	Namespace string
	// ServiceAccount is whose token the Secret holds; render.ReaderAccount when
	// empty. It is made, with its roles, when it is not there, unless KeepOut is
	// set.
	ServiceAccount string
	KeepOut        bool
	// Server is the URL by which the reading control plane reaches the API
	// server; the one that this call goes to when empty. ProxyURL is a proxy on
	// the way there, or empty.
	Server, ProxyURL string
	// Duration is the life of the token, 10 minutes or more. Static asks for a
	// token without an end instead.
	Duration time.Duration
	Static   bool
	// Plugin replaces the token by a program or a plugin that the reading
	// control plane gets its credentials from.
	Plugin *clientcmdapi.AuthProviderConfig
	// Charts holds the chart that the account is made from.
	Charts fs.FS
	// Tell takes sentences for whoever asked, as they come up.
	Tell func(string)
}

// validate checks what can be checked without the cluster.
func (o *Options) validate() error {
	if o.Name != "" {
		if err := values.CheckClusterName(o.Name); err != nil {
			return fmt.Errorf("--name: %w", err)
		}
	}
	if errs := validation.IsDNS1123Subdomain(o.ServiceAccount); len(errs) > 0 {
		return fmt.Errorf("--service-account: %q is not the name of a service account", o.ServiceAccount)
	}
	if o.Server != "" {
		if err := checkServer(o.Server); err != nil {
			return fmt.Errorf("--server: %w", err)
		}
	}
	if !o.Static && o.Plugin == nil && o.Duration < shortestToken {
		return fmt.Errorf("--token-duration: %s is less than %s, the shortest that Kubernetes grants", o.Duration, shortestToken)
	}
	return nil
}

// maker makes one Secret.
type maker struct {
	Options
	config *rest.Config
	kube   kubernetes.Interface
}

// Make makes the Secret by which the cluster at cfg is read. In that cluster it
// makes the account, where it is missing, and asks for the account's token.
func Make(ctx context.Context, cfg *rest.Config, o Options) (*corev1.Secret, error) {
	if o.ServiceAccount == "" {
		o.ServiceAccount = render.ReaderAccount
	}
	if err := o.validate(); err != nil {
		return nil, err
	}

	cfg = rest.CopyConfig(cfg)
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}

	m := &maker{Options: o, config: cfg, kube: kube}
	if err := m.nameCluster(ctx); err != nil {
		return nil, m.explain(err)
	}
	user, err := m.user(ctx)
	if err != nil {
		return nil, m.explain(err)
	}
	kubeconfig, err := m.kubeconfig(ctx, user)
	if err != nil {
		return nil, m.explain(err)
	}
	m.check(ctx, kubeconfig)
	return m.secret(kubeconfig)
}

// explain says of which API server an error speaks, and what to do about it.
func (m *maker) explain(err error) error {
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("the user of this context may not do what it takes: %w; ask for it who may make service accounts, roles and bindings there, or have the account made beforehand (isthmus install makes it)", err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server %s does not know the user of this context: %w; log in again", m.config.Host, err)
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown && unreachable(err):
		return fmt.Errorf("the API server %s cannot be reached from here: %w; see to the context, or to the network on the way there", m.config.Host, err)
	}
	return err
}

// nameCluster settles the cluster's name, and tells when the cluster itself goes
// by another: its proxies introduce themselves by that one.
func (m *maker) nameCluster(ctx context.Context) error {
	own, err := m.ownName(ctx)
	if err != nil && (m.Name == "" || m.Plugin == nil) {
		return err // else nothing is wanted of the cluster
	}
	switch {
	case m.Name == "" && own != "":
		m.Name = own
	case m.Name == "":
		ns, err := m.kube.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("look for a name of the cluster: %w", err)
		}
		m.Name = string(ns.UID)
		m.Tell(fmt.Sprintf("the cluster has no name of its own yet: it is called %s, the UID of its namespace kube-system. Install it with values.global.multiCluster.clusterName=%s, or name it with --name", m.Name, m.Name))
	case own != "" && own != m.Name:
		m.Tell(fmt.Sprintf("the cluster was installed as %q (values.global.multiCluster.clusterName), and its proxies say so: a control plane that knows it as %q refuses them. Use --name %s, or install it as %s", own, m.Name, own, m.Name))
	}
	return values.CheckClusterName(m.Name)
}

// secret is the Secret in its final form. stringData keeps the kubeconfig
// readable; the API server turns it into data.
func (m *maker) secret(kubeconfig []byte) (*corev1.Secret, error) {
	name := namePrefix + strings.ToLower(m.Name)
	if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
		return nil, errors.New(errs[0])
	}
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: m.Namespace,
			Labels:      map[string]string{Label: "true"},
			Annotations: map[string]string{ClusterAnnotation: m.Name},
		},
		StringData: map[string]string{m.Name: string(kubeconfig)},
	}, nil
}

// account makes the service account and its roles where they are missing.
func (m *maker) account(ctx context.Context) error {
	_, err := m.kube.CoreV1().ServiceAccounts(m.Namespace).Get(ctx, m.ServiceAccount, metav1.GetOptions{})
	there := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if m.KeepOut {
		if !there {
			return fmt.Errorf("there is no service account %s in namespace %s; make it, or leave out --create-service-account=false", m.ServiceAccount, m.Namespace)
		}
		return nil
	}

	objs, err := render.RenderReader(m.Namespace, m.ServiceAccount, m.Charts)
	if err != nil {
		return err
	}
	client, err := apply.NewClient(m.config)
	if err != nil {
		return err
	}
	made, err := client.CreateMissing(ctx, m.Namespace, objs)
	if len(made) > 0 {
		m.Tell("made in the cluster: " + strings.Join(made, ", "))
	}
	if there && apierrors.IsForbidden(err) {
		// The account may have its rights from somebody else; check looks.
		m.Tell(fmt.Sprintf("the roles of service account %s were not looked at: %v", m.ServiceAccount, err))
		return nil
	}
	return err
}
