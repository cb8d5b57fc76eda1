package remotesecret

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// heldSecret is a Secret by which clusters are read, each trusting an authority.
func heldSecret(t *testing.T, name string, authorities map[string]string) *corev1.Secret {
	t.Helper()
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: map[string]string{Label: "true"}},
		Data:       map[string][]byte{},
	}
	for cluster, authority := range authorities {
		c := clientcmdapi.NewConfig()
		c.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://192.0.2.1:6443", CertificateAuthorityData: []byte(authority)}
		c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "t"}
		c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
		c.CurrentContext = "x"
		kubeconfig, err := clientcmd.Write(*c)
		if err != nil {
			t.Fatal(err)
		}
		s.Data[cluster] = kubeconfig
	}
	return s
}

// A cluster that leaves takes what others read it by, and nothing of others'.
func TestLeave(t *testing.T) {
	ctx := t.Context()
	reading := fake.NewClientset(
		heldSecret(t, "istio-remote-secret-third", map[string]string{"third": "authority-3"}),
		heldSecret(t, "istio-remote-secret-second", map[string]string{"second": "authority-2"}),
		heldSecret(t, "several", map[string]string{"second": "authority-2", "third": "authority-3"}),
	)
	third := &rest.Config{Host: "https://127.0.0.1:1", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("authority-3\n")}}

	held, err := Readers(ctx, reading, "istio-system", "third", third)
	if err != nil {
		t.Fatal(err)
	}
	want := "[Secret istio-system/istio-remote-secret-third key third of Secret istio-system/several]"
	if got := fmt.Sprint(held); got != want {
		t.Fatalf("found %s, want %s", got, want)
	}
	for range 2 { // again: nothing to do
		for _, h := range held {
			if err := Forget(ctx, reading, h); err != nil {
				t.Fatal(err)
			}
		}
	}

	list, err := reading.CoreV1().Secrets("istio-system").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, s := range list.Items {
		for key := range s.Data {
			left = append(left, s.Name+"/"+key)
		}
	}
	if got := strings.Join(left, " "); got != "istio-remote-secret-second/second several/second" && got != "several/second istio-remote-secret-second/second" {
		t.Errorf("left are %s", got)
	}

	namesake := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: []byte("authority-9")}}
	if _, err := Readers(ctx, reading, "istio-system", "second", namesake); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("the Secret of a namesake is to be deleted: %v", err)
	}
}
