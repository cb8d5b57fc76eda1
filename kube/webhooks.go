package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/internal/wake"
)

// fieldManager owns what discovery sets on webhook configurations.
const fieldManager = "isthmus-discovery"

// WebhookConfig names the webhook configurations that call this control plane,
// and what their calls are to trust.
type WebhookConfig struct {
	Mutating string
	// Validating are looked after while they call Service: one that all
	// revisions share calls one of them at a time.
	Validating []string
	// Roots returns the PEM of the roots, and a channel that closes when
	// they change.
	Roots func() (pem []byte, changed <-chan struct{})
	// Enforce closes when the validating webhook is reachable: from then on
	// an object that cannot be checked is refused (failurePolicy Fail).
	Enforce <-chan struct{}
	// Namespace and Service are those by which the webhooks are called.
	Namespace, Service string
	Logger             *slog.Logger
}

// Webhooks keeps the trust bundle of the webhook configurations up to date:
// when the roots change, and when an installer writes the configurations anew.
//
// When ctx ends and no other replica is ready, it lets validation be skipped
// before it returns: a control plane that is taken down on purpose must not lock
// people out of their configuration. What is wrong is found when it is read.
func Webhooks(ctx context.Context, client kubernetes.Interface, cfg WebhookConfig) error {
	changed := wake.NewSignal()
	factory := func(name string) informers.SharedInformerFactory {
		return informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(only(name)))
	}

	mutating := factory(cfg.Mutating).Admissionregistration().V1().MutatingWebhookConfigurations().Informer()
	validating := map[string]cache.SharedIndexInformer{}
	for _, name := range cfg.Validating {
		validating[name] = factory(name).Admissionregistration().V1().ValidatingWebhookConfigurations().Informer()
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	for _, inf := range append(slices.Collect(maps.Values(validating)), mutating) {
		if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { changed.Send() },
			UpdateFunc: func(any, any) { changed.Send() },
		}); err != nil {
			return err
		}
		wg.Go(func() { inf.RunWithContext(ctx) })
	}

	enforce, enforcing := cfg.Enforce, false
	for {
		roots, rotated := cfg.Roots()
		retry := webhookPass(ctx, client, cfg, mutating, validating, roots, enforcing)
		select {
		case <-ctx.Done():
			if enforcing {
				// ctx has ended, and relax has a bound of its own.
				relax(context.WithoutCancel(ctx), client, cfg)
			}
			return nil
		case <-changed:
		case <-rotated:
		case <-enforce:
			enforce, enforcing = nil, true
		case <-retry:
		}
	}
}

// webhookPass corrects all configurations. The channel fires when it is to be
// tried again.
func webhookPass(
	ctx context.Context, client kubernetes.Interface, cfg WebhookConfig,
	mutating cache.SharedIndexInformer, validating map[string]cache.SharedIndexInformer,
	roots []byte, enforcing bool,
) <-chan time.Time {
	hooks := client.AdmissionregistrationV1()
	var failed error
	if m, ok := lookup[*admissionv1.MutatingWebhookConfiguration](mutating, "", cfg.Mutating); ok {
		var entries []webhookEntry
		for _, w := range m.Webhooks {
			entries = append(entries, webhookEntry{name: w.Name, bundle: w.ClientConfig.CABundle})
		}
		if patch := webhookPatch("MutatingWebhookConfiguration", m.Name, entries, roots, ""); patch != nil {
			_, err := hooks.MutatingWebhookConfigurations().Patch(ctx, m.Name, types.ApplyPatchType, patch, forced())
			failed = logWebhook(cfg.Logger, m.Name, err)
		}
	}

	// Before it was reachable once, no call to it is required: what makes it so
	// may have to be applied first.
	policy := admissionv1.FailurePolicyType("")
	if enforcing {
		policy = admissionv1.Fail
	}

	for name, inf := range validating {
		v, ok := lookup[*admissionv1.ValidatingWebhookConfiguration](inf, "", name)
		if !ok || !cfg.answers(v) {
			continue
		}
		if patch := webhookPatch("ValidatingWebhookConfiguration", v.Name, validatingEntries(v), roots, policy); patch != nil {
			_, err := hooks.ValidatingWebhookConfigurations().Patch(ctx, v.Name, types.ApplyPatchType, patch, forced())
			if err := logWebhook(cfg.Logger, v.Name, err); err != nil {
				failed = err
			}
		}
	}

	if failed != nil {
		return time.After(2 * time.Second)
	}
	return nil
}

// answers tells whether a configuration calls this control plane. The trust
// bundle of another, and whether it must answer, are not for this one to set.
func (cfg WebhookConfig) answers(v *admissionv1.ValidatingWebhookConfiguration) bool {
	return !slices.ContainsFunc(v.Webhooks, func(w admissionv1.ValidatingWebhook) bool {
		s := w.ClientConfig.Service
		return s == nil || s.Name != cfg.Service || s.Namespace != cfg.Namespace
	})
}

func validatingEntries(v *admissionv1.ValidatingWebhookConfiguration) []webhookEntry {
	var entries []webhookEntry
	for _, w := range v.Webhooks {
		entries = append(entries, webhookEntry{name: w.Name, bundle: w.ClientConfig.CABundle, policy: w.FailurePolicy})
	}
	return entries
}

// relax lets validation be skipped if this was the last replica.
func relax(ctx context.Context, client kubernetes.Interface, cfg WebhookConfig) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()

	if !lastReplica(ctx, client, cfg.Namespace, cfg.Service) {
		return
	}
	for _, name := range cfg.Validating {
		relaxOne(ctx, client, cfg, name)
	}
}

func relaxOne(ctx context.Context, client kubernetes.Interface, cfg WebhookConfig, name string) {
	hooks := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	v, err := hooks.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		cfg.Logger.Debug("cannot read the validating webhook", "webhook", name, "error", err)
		return
	}
	if !cfg.answers(v) {
		return
	}

	roots, _ := cfg.Roots()
	patch := webhookPatch("ValidatingWebhookConfiguration", v.Name, validatingEntries(v), roots, admissionv1.Ignore)
	if patch == nil {
		return
	}

	if _, err := hooks.Patch(ctx, v.Name, types.ApplyPatchType, patch, forced()); err != nil {
		cfg.Logger.Warn("configuration cannot be changed until a control plane runs again", "webhook", v.Name, "error", err)
		return
	}
	cfg.Logger.Info("last replica stops: configuration is taken without validation until a control plane runs again", "webhook", v.Name)
}

// lastReplica tells whether the service has no ready endpoint left. A pod that
// is being deleted stops being ready at once, so it need not be told apart; the
// look is repeated while that change is on its way.
func lastReplica(ctx context.Context, client kubernetes.Interface, namespace, service string) bool {
	for range 5 {
		list, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx,
			metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
		if err != nil {
			return false
		}

		ready := 0
		for _, s := range list.Items {
			for _, e := range s.Endpoints {
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					ready++
				}
			}
		}

		if ready == 0 {
			return true
		}

		select {
		case <-ctx.Done():
			return false
		case <-time.After(200 * time.Millisecond):
		}
	}
	return false
}

func forced() metav1.PatchOptions {
	force := true
	return metav1.PatchOptions{FieldManager: fieldManager, Force: &force}
}

func logWebhook(log *slog.Logger, name string, err error) error {
	if err != nil {
		log.Warn("cannot give the webhook its trust bundle; trying again", "webhook", name, "error", err)
		return fmt.Errorf("webhook %s: %w", name, err)
	}
	log.Info("webhook trusts this control plane", "webhook", name)
	return nil
}

type webhookEntry struct {
	name   string
	bundle []byte
	policy *admissionv1.FailurePolicyType
}

// webhookPatch is the server-side apply of what is to be, or nil when all is so
// already. An empty policy leaves that alone.
func webhookPatch(kind, name string, entries []webhookEntry, roots []byte, policy admissionv1.FailurePolicyType) []byte {
	if len(roots) == 0 || len(entries) == 0 {
		return nil
	}

	right := true // nothing is to be changed
	var list []map[string]any
	for _, e := range entries {
		right = right && bytes.Equal(e.bundle, roots)
		entry := map[string]any{"name": e.name, "clientConfig": map[string]any{"caBundle": roots}}
		if policy != "" {
			right = right && e.policy != nil && *e.policy == policy
			entry["failurePolicy"] = string(policy)
		}
		list = append(list, entry)
	}

	if right {
		return nil
	}

	patch, err := json.Marshal(map[string]any{
		"apiVersion": admissionv1.SchemeGroupVersion.String(),
		"kind":       kind,
		"metadata":   map[string]any{"name": name},
		"webhooks":   list,
	})
	if err != nil {
		panic("kube: encoding a patch of strings: " + err.Error())
	}
	return patch
}
