package remotesecret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/install/render"
)

// checkTime is for trying the Secret out.
const checkTime = 5 * time.Second

// check tries the Secret's kubeconfig from here, and tells what would keep a
// control plane from reading the cluster by it. It is no error when it cannot: the
// address may be for the other cluster alone.
func (m *maker) check(ctx context.Context, kubeconfig []byte) {
	if m.Plugin != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()

	missing, err := m.missing(ctx, kubeconfig)
	switch {
	case err != nil && m.Server != "" && unreachable(err):
		m.Tell(fmt.Sprintf("%s was not tried: it is not reached from here (%v)", m.Server, err))
	case err != nil:
		m.Tell(fmt.Sprintf("the secret was tried from here and does not do: %v", err))
	case len(missing) > 0:
		m.Tell(fmt.Sprintf("service account %s may not %s: give it the rules of ClusterRole istio-reader-%s and of Role istio-reader that isthmus manifest generate prints",
			m.ServiceAccount, strings.Join(missing, ", "), m.Namespace))
	}
}

// missing lists what a control plane needs and the kubeconfig's user may not.
func (m *maker) missing(ctx context.Context, kubeconfig []byte) ([]string, error) {
	cfg, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	rules, err := m.rules()
	if err != nil {
		return nil, err
	}

	var out []string
	for _, a := range needs(rules, m.Namespace) {
		r, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &a}}, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		if !r.Status.Allowed {
			out = append(out, a.Verb+" "+strings.Trim(a.Resource+"/"+a.Subresource, "/"))
		}
	}
	return out, nil
}

// rules are those of the roles that a reader has.
func (m *maker) rules() ([]rbacv1.PolicyRule, error) {
	objs, err := render.RenderReader(m.Namespace, m.ServiceAccount, m.Charts)
	if err != nil {
		return nil, err
	}
	var out []rbacv1.PolicyRule
	for _, o := range objs {
		if o.GetKind() != "ClusterRole" && o.GetKind() != "Role" {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			return nil, fmt.Errorf("%s: %w", o.ID(), err)
		}
		out = append(out, role.Rules...)
	}
	if len(out) == 0 {
		return nil, errors.New("the chart has no roles for a reader")
	}
	return out, nil
}

// needs lists the rules' permissions one by one. Reading is asked about by
// "watch", the verb that goes with no other.
func needs(rules []rbacv1.PolicyRule, namespace string) []authorizationv1.ResourceAttributes {
	var out []authorizationv1.ResourceAttributes
	for _, r := range rules {
		verb := r.Verbs[0]
		if slices.Contains(r.Verbs, "watch") {
			verb = "watch"
		}
		for _, resource := range r.Resources {
			a := authorizationv1.ResourceAttributes{Group: r.APIGroups[0], Verb: verb}
			a.Resource, a.Subresource, _ = strings.Cut(resource, "/")
			if len(r.ResourceNames) > 0 {
				a.Namespace, a.Name = namespace, r.ResourceNames[0]
			}
			out = append(out, a)
		}
	}
	return out
}
