package remotesecret

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// staticWait is how long the cluster has to fill a token Secret.
const staticWait = 10 * time.Second

// user is what the kubeconfig proves itself by.
func (m *maker) user(ctx context.Context) (*clientcmdapi.AuthInfo, error) {
	user := clientcmdapi.NewAuthInfo()
	if m.Plugin != nil {
		m.Tell(fmt.Sprintf("the secret has no token: the control plane that reads it has to get credentials by the plugin %s, and refuses to unless its operator allows that", m.Plugin.Name))
		user.AuthProvider = m.Plugin
		return user, nil
	}

	if err := m.account(ctx); err != nil {
		return nil, err
	}
	var err error
	if m.Static {
		user.Token, err = m.staticToken(ctx)
	} else {
		user.Token, err = m.boundToken(ctx)
	}
	return user, err
}

// boundToken asks for a token with an end. The control plane that has it asks
// for the next one in time.
func (m *maker) boundToken(ctx context.Context) (string, error) {
	seconds := int64(m.Duration / time.Second)
	got, err := m.kube.CoreV1().ServiceAccounts(m.Namespace).CreateToken(ctx, m.ServiceAccount,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("ask for a token of service account %s: %w", m.ServiceAccount, err)
	}

	ends := got.Status.ExpirationTimestamp.Time
	m.Tell(fmt.Sprintf("the token ends %s; the control plane that has it renews it at half of its life", ends.UTC().Format(time.RFC3339)))
	if granted := time.Until(ends); granted < m.Duration-time.Minute {
		m.Tell(fmt.Sprintf("the API server grants no token for longer than about %s", granted.Round(time.Minute)))
	}
	return got.Status.Token, nil
}

// staticToken makes a Secret that the cluster fills with a token without an end,
// as every service account had one before Kubernetes 1.24.
func (m *maker) staticToken(ctx context.Context) (string, error) {
	secrets := m.kube.CoreV1().Secrets(m.Namespace)
	name := m.ServiceAccount + "-istio-remote-secret-token"
	_, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: m.Namespace,
			Annotations: map[string]string{corev1.ServiceAccountNameKey: m.ServiceAccount},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("make a token without an end: %w", err)
	}

	ctx, cancel := context.WithTimeout(ctx, staticWait)
	defer cancel()
	for {
		s, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", fmt.Errorf("read the token without an end: %w", err)
		}
		if of := s.Annotations[corev1.ServiceAccountNameKey]; s.Type != corev1.SecretTypeServiceAccountToken || of != m.ServiceAccount {
			return "", fmt.Errorf("the Secret %s/%s is there and holds no token of service account %s; delete it", m.Namespace, name, m.ServiceAccount)
		}
		if token := s.Data[corev1.ServiceAccountTokenKey]; len(token) > 0 {
			m.Tell(fmt.Sprintf("the token has no end: whoever gets hold of it reads the cluster until Secret %s/%s is deleted there", m.Namespace, name))
			return string(token), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the cluster has put no token into Secret %s/%s within %s; does its kube-controller-manager run?", m.Namespace, name, staticWait)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
