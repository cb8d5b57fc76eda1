package ca

import (
	"bytes"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// load reads cacerts, or else istio-ca-secret, or else makes the latter.
func (a *Authority) load(ctx context.Context) (*Material, error) {
	secrets := a.client.CoreV1().Secrets(a.cfg.Namespace)
	plugged, err := secrets.Get(ctx, SecretPlugged, metav1.GetOptions{})
	if err == nil {
		return a.pluggedMaterial(plugged)
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read secret %s/%s: %w", a.cfg.Namespace, SecretPlugged, err)
	}

	own, err := secrets.Get(ctx, SecretSelfSigned, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		own, err = a.createSelfSigned(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", a.cfg.Namespace, SecretSelfSigned, err)
	}
	return a.selfSignedMaterial(own)
}

// createSelfSigned makes a root and puts it into the Secret. When another
// replica was faster, its root counts.
func (a *Authority) createSelfSigned(ctx context.Context) (*corev1.Secret, error) {
	pair, err := CreateRoot(a.cfg.Org, a.cfg.RootTTL, time.Now())
	if err != nil {
		return nil, err
	}

	key, err := pair.KeyPEM()
	if err != nil {
		return nil, err
	}

	secrets := a.client.CoreV1().Secrets(a.cfg.Namespace)
	made, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretSelfSigned, Namespace: a.cfg.Namespace},
		Type:       "istio.io/ca-root",
		Data:       map[string][]byte{FileCert: pair.CertPEM(), FileKey: key},
	}, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		return secrets.Get(ctx, SecretSelfSigned, metav1.GetOptions{})
	}
	return made, err
}

func (a *Authority) pluggedMaterial(s *corev1.Secret) (*Material, error) {
	m, err := ParseMaterial(s.Data, time.Now())
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s is wrong: %w", s.Namespace, s.Name, err)
	}
	m.Origin = "secret " + s.Namespace + "/" + s.Name
	return m, nil
}

func (a *Authority) selfSignedMaterial(s *corev1.Secret) (*Material, error) {
	m, err := ParseMaterial(map[string][]byte{
		FileCert: s.Data[FileCert], FileKey: s.Data[FileKey], FileRoot: s.Data[FileCert],
	}, time.Now())
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s is wrong: %w; delete it to have a new root made", s.Namespace, s.Name, err)
	}
	m.Origin = "secret " + s.Namespace + "/" + s.Name + " (self-signed)"
	return m, nil
}

// followPlugged puts every good edit of cacerts into force.
func (a *Authority) followPlugged(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(a.client, 0,
		informers.WithNamespace(a.cfg.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", SecretPlugged).String()
		}))

	informer := factory.Core().V1().Secrets().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    a.onPlugged,
		UpdateFunc: func(_, obj any) { a.onPlugged(obj) },
		DeleteFunc: func(any) {
			a.cfg.Logger.Warn("secret cacerts was deleted: its CA stays in force until a restart", "namespace", a.cfg.Namespace)
		},
	})
	if err != nil {
		return fmt.Errorf("follow secret %s/%s: %w", a.cfg.Namespace, SecretPlugged, err)
	}

	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

func (a *Authority) onPlugged(obj any) {
	s, ok := obj.(*corev1.Secret)
	if !ok || s.Name != SecretPlugged || s.Namespace != a.cfg.Namespace {
		return
	}

	m, err := a.pluggedMaterial(s)
	if err != nil {
		a.metrics.badSecret.Inc()
		a.cfg.Logger.Error("the CA in force stays", "error", err)
		return
	}

	// Informers repeat themselves, and the Secret may have been edited
	// elsewhere.
	old := a.cur.Load()
	if m.same(old) {
		return
	}
	if !m.sharesRoot(old) {
		a.cfg.Logger.Warn("the new trust bundle holds none of the old roots: workloads distrust each other until all have new certificates; put both roots into "+FileRoot+" for an exchange without a gap",
			"secret", SecretPlugged)
	}
	a.set(m)
}

// same tells whether two materials sign and trust alike.
func (m *Material) same(o *Material) bool {
	return m.Cert.Equal(o.Cert) && publicEqual(m.Key.Public(), o.Key.Public()) &&
		bytes.Equal(m.Roots.PEM(), o.Roots.PEM()) && len(m.Intermediates) == len(o.Intermediates)
}

func (m *Material) sharesRoot(o *Material) bool {
	for _, a := range m.Roots.Certs {
		for _, b := range o.Roots.Certs {
			if a.Equal(b) {
				return true
			}
		}
	}
	return false
}
