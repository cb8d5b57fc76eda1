package main

import (
	"context"
	"fmt"
	"io"

	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/install/remotesecret"
)

// leaving is the end of a cluster's part in other control planes: the Secrets by
// which they read it.
type leaving struct {
	from []leavingFrom
}

type leavingFrom struct {
	context string
	client  kubernetes.Interface
	held    []remotesecret.Held
}

// planLeaving looks which Secrets the clusters of the contexts have for the one
// of f.
func planLeaving(ctx context.Context, f *kubeFlags, contexts []string) (*leaving, error) {
	if len(contexts) == 0 {
		return &leaving{}, nil
	}
	config, err := f.restConfig()
	if err != nil {
		return nil, err
	}
	name, err := remotesecret.ClusterName(ctx, config, f.istioNamespace)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, fmt.Errorf("--leave: there is no istiod in namespace %s that says what this cluster is called; delete the Secrets istio-remote-secret-NAME by hand", f.istioNamespace)
	}

	l := &leaving{}
	for _, reader := range contexts {
		there := *f
		there.context = reader
		oc, err := there.restConfig()
		if err != nil {
			return nil, fmt.Errorf("--leave %s: %w", reader, err)
		}
		if oc.Host == config.Host {
			return nil, fmt.Errorf("--leave %s: this is the cluster that is to leave; name those whose control planes read it", reader)
		}
		client, err := kubernetes.NewForConfig(oc)
		if err != nil {
			return nil, err
		}
		held, err := remotesecret.Readers(ctx, client, f.istioNamespace, name, config)
		if err != nil {
			return nil, fmt.Errorf("--leave %s: %w", reader, err)
		}
		l.from = append(l.from, leavingFrom{reader, client, held})
	}
	return l, nil
}

// print tells what is to be deleted.
func (l *leaving) print(out io.Writer) {
	for _, from := range l.from {
		if len(from.held) == 0 {
			fmt.Fprintf(out, "  %s does not read this cluster\n", from.context)
		}
		for _, h := range from.held {
			fmt.Fprintf(out, "  delete %s in %s, which reads this cluster by it\n", h, from.context)
		}
	}
}

// run deletes it.
func (l *leaving) run(ctx context.Context) error {
	for _, from := range l.from {
		for _, h := range from.held {
			if err := remotesecret.Forget(ctx, from.client, h); err != nil {
				return fmt.Errorf("%s: %w", from.context, err)
			}
		}
	}
	return nil
}
