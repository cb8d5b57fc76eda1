package model

// Credential is what a Kubernetes Secret holds that a Gateway may name (credentialName):
// a certificate that gateways show, and roots by which they judge their clients.
type Credential struct {
	Cluster   ClusterID
	Namespace string
	Name      string
	// Certificate and PrivateKey are PEM, and belong together; both are empty where
	// the Secret has none. Roots are PEM, and may be empty.
	Certificate, PrivateKey, Roots []byte
	// Problem says why the Secret is of no use; empty: it is.
	Problem string
}

// Key is the primary key.
func (c *Credential) Key() string { return CredentialKey(c.Cluster, c.Namespace, c.Name) }

// ReadFrom is the cluster that the row was read from.
func (c *Credential) ReadFrom() ClusterID { return c.Cluster }

// CredentialKey is the primary key of a Secret's row.
func CredentialKey(c ClusterID, namespace, name string) string {
	return key(string(c), namespace, name)
}
