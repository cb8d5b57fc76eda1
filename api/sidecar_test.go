package api

import (
	"strings"
	"testing"
)

func TestSidecar(t *testing.T) {
	for _, tt := range []struct {
		name, spec string
		want       string // what is refused; empty: nothing
	}{
		{name: "nothing said", spec: `{}`},
		{
			name: "what the documentation shows",
			spec: `{"egress": [{"hosts": ["./*", "istio-system/*"]}]}`,
		},
		{
			name: "everything that is honoured",
			spec: `{"workloadSelector": {"labels": {"app": "web"}}, "egress": [{"hosts": ["*/*.example.com", "shop/cart.shop.svc.cluster.local"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}`,
		},
		{name: "nothing at all", spec: `{"egress": [{"hosts": ["~/*"]}]}`},
		{
			name: "no namespace",
			spec: `{"egress": [{"hosts": ["a.example.com"]}]}`,
			want: `spec.egress[0].hosts[0]: "a.example.com" has no namespace; write NAMESPACE/HOST`,
		},
		{
			name: "a namespace that is none",
			spec: `{"egress": [{"hosts": ["Shop/*"]}]}`,
			want: `spec.egress[0].hosts[0]: "Shop" is none of "*", ".", "~" and no namespace`,
		},
		{
			name: "a host in no namespace",
			spec: `{"egress": [{"hosts": ["~/a.example.com"]}]}`,
			want: `"~" is no namespace, and leaves nothing`,
		},
		{
			name: "a host that is none",
			spec: `{"egress": [{"hosts": ["./a b"]}]}`,
			want: `spec.egress[0].hosts[0]: "a b" is no DNS name`,
		},
		{
			name: "no hosts",
			spec: `{"egress": [{}]}`,
			want: `spec.egress[0].hosts: is empty`,
		},
		{
			name: "twice",
			spec: `{"egress": [{"hosts": ["./*", "./*"]}]}`,
			want: `spec.egress[0].hosts[1]: "./*" is listed twice`,
		},
		{
			name: "two that say all",
			spec: `{"egress": [{"hosts": ["./*"]}, {"hosts": ["*/*"]}]}`,
			want: `spec.egress: lists 2 without a port`,
		},
		{
			name: "a listener of one's own",
			spec: `{"egress": [{"port": {"number": 9080, "protocol": "HTTP", "name": "http"}, "hosts": ["./*"]}]}`,
			want: `spec.egress[0].port: is not honoured yet`,
		},
		{
			name: "ingress",
			spec: `{"ingress": [{"port": {"number": 9080, "protocol": "HTTP", "name": "http"}, "defaultEndpoint": "127.0.0.1:80"}]}`,
			want: `spec.ingress: is not honoured yet`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(`{"kind": "Sidecar", "metadata": {"name": "default", "namespace": "shop"}, "spec": ` + tt.spec + `}`))
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("the error is %v, want one with %q", err, tt.want)
			}
		})
	}
}
