package render

import "io/fs"

// ReaderAccount is the account by which control planes of other clusters read a
// cluster, unless another is named.
const ReaderAccount = "istio-reader-service-account"

// RenderReader returns the account by which control planes of other clusters
// read a cluster, with its roles and bindings, in the order to apply them in. They
// are those of the component base, by another name when account is not
// ReaderAccount.
func RenderReader(namespace, account string, charts fs.FS) ([]Object, error) {
	objs, err := release{
		component: Base, chart: "base", name: "istio-base", namespace: namespace,
		values: map[string]any{"enableCRDTemplates": false, "readerServiceAccount": account},
	}.render(charts)
	if err != nil {
		return nil, err
	}
	for _, o := range objs {
		label(o)
	}
	Sort(objs)
	return objs, unique(objs)
}
