package compile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/model"
)

// CredentialKeys are the keys of a Secret that are read: those of kubernetes.io/tls,
// and those of Istio's generic Secrets.
func CredentialKeys() []string {
	return []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey, corev1.ServiceAccountRootCAKey, "cert", "key", "cacert"}
}

// Credential makes the row of a Secret; nil when the Secret holds nothing that a Gateway
// could name.
func Credential(c model.ClusterID, s *corev1.Secret) *model.Credential {
	row := &model.Credential{
		Cluster: c, Namespace: s.Namespace, Name: s.Name,
		Certificate: first(s.Data[corev1.TLSCertKey], s.Data["cert"]),
		PrivateKey:  first(s.Data[corev1.TLSPrivateKeyKey], s.Data["key"]),
		Roots:       first(s.Data[corev1.ServiceAccountRootCAKey], s.Data["cacert"]),
	}
	if len(row.Certificate)+len(row.PrivateKey)+len(row.Roots) == 0 {
		return nil
	}

	if row.Problem = credentialProblem(row); row.Problem != "" {
		row.Certificate, row.PrivateKey, row.Roots = nil, nil, nil
	}
	return row
}

// credentialProblem says what is wrong with a Secret, and nothing of its key.
func credentialProblem(row *model.Credential) string {
	if len(row.Certificate)+len(row.PrivateKey) > 0 {
		if _, err := tls.X509KeyPair(row.Certificate, row.PrivateKey); err != nil {
			return fmt.Sprintf("its certificate and key are of no use: %v", err)
		}
	}
	if len(row.Roots) > 0 && !x509.NewCertPool().AppendCertsFromPEM(row.Roots) {
		return "its roots are no certificates in PEM"
	}
	return ""
}

// first is the first text that is not empty.
func first(texts ...[]byte) []byte {
	for _, t := range texts {
		if len(bytes.TrimSpace(t)) > 0 {
			return t
		}
	}
	return nil
}
