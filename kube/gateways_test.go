package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// TestSecretsOfGateways: a Secret of the control plane's namespace that a Gateway could
// name becomes a row, and goes with it. Nothing is kept of any other.
func TestSecretsOfGateways(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: selfSigned(t, time.Now().Add(time.Hour))})
	create := func(namespace, name string, kind corev1.SecretType, data map[string][]byte) {
		t.Helper()
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: kind, Data: data}
		if _, err := c.kube.CoreV1().Secrets(namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("shop", "elsewhere", corev1.SecretTypeOpaque, map[string][]byte{"ca.crt": roots})
	create("istio-system", "token", corev1.SecretTypeServiceAccountToken, map[string][]byte{"ca.crt": roots, "token": []byte("t")})
	create("istio-system", "cacerts", corev1.SecretTypeOpaque, map[string][]byte{"ca-key.pem": []byte("k")})
	create("istio-system", "half", corev1.SecretTypeTLS, map[string][]byte{"tls.crt": roots})
	create("istio-system", "shop-cacert", corev1.SecretTypeOpaque, map[string][]byte{"cacert": roots})

	rows := func(txn model.ReadTxn) map[string]*model.Credential {
		out := map[string]*model.Credential{}
		for row := range c.store.Credentials.All(txn) {
			out[row.Namespace+"/"+row.Name] = row
		}
		return out
	}
	c.eventually("both rows", func(txn model.ReadTxn) bool { return len(rows(txn)) == 2 })
	got := rows(c.store.Read())
	if ca := got["istio-system/shop-cacert"]; ca == nil || string(ca.Roots) != string(roots) || ca.Problem != "" {
		t.Errorf("the roots became %+v", ca)
	}
	if half := got["istio-system/half"]; half == nil || half.Problem == "" || len(half.Certificate) > 0 {
		t.Errorf("a certificate without its key became %+v", half)
	}
	for _, obj := range c.reader.builtins.secrets.GetStore().List() {
		s := obj.(*corev1.Secret)
		if s.Data["token"] != nil || s.Data["ca-key.pem"] != nil || s.Name == "token" && len(s.Data) > 0 {
			t.Errorf("of Secret %s there is kept %d keys that gateways have no use for", s.Name, len(s.Data))
		}
	}

	if err := c.kube.CoreV1().Secrets("istio-system").Delete(ctx, "shop-cacert", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually("the row goes", func(txn model.ReadTxn) bool { return len(rows(txn)) == 1 })
}

// selfSigned is a certificate that is its own root.
func selfSigned(t *testing.T, until time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
