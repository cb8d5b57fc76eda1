package agent

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/version"
	"github.com/isthmus-mesh/isthmus/xds"
)

func (c *Config) nodeID() string {
	return xds.NodeID{Kind: string(c.Kind), IP: c.IP, Pod: c.Pod, Namespace: c.Namespace, Domain: c.DNSDomain}.String()
}

// node is how the proxy introduces itself to discovery. Locality is left to
// discovery, which sees the labels of the pod's node.
func (c *Config) node() (*corev3.Node, error) {
	labels, err := ReadLabels(c.LabelsFile)
	if err != nil {
		return nil, err
	}

	md := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for k, v := range c.Meta {
		md.Fields[k] = structpb.NewStringValue(v)
	}

	for k, v := range map[string]string{
		"NAME":            c.Pod,
		"NAMESPACE":       c.Namespace,
		"SERVICE_ACCOUNT": c.ServiceAccount,
		"INSTANCE_IPS":    c.IP.String(),
		"ISTIO_VERSION":   version.Version,
	} {
		md.Fields[k] = structpb.NewStringValue(v)
	}

	lf := make(map[string]*structpb.Value, len(labels))
	for k, v := range labels {
		lf[k] = structpb.NewStringValue(v)
	}

	md.Fields["LABELS"] = structpb.NewStructValue(&structpb.Struct{Fields: lf})
	return &corev3.Node{
		Id:                   c.nodeID(),
		Cluster:              labels["service.istio.io/canonical-name"] + "." + c.Namespace,
		Metadata:             md,
		UserAgentName:        "isthmus-proxy",
		UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: version.Version},
		ClientFeatures:       []string{xds.FeatureVirtualHosts},
	}, nil
}

// ReadLabels reads a file of the downward API. A missing file has no labels.
func ReadLabels(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}

	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the pod's labels: %w", err)
	}

	labels, err := ParseLabels(string(data))
	if err != nil {
		return nil, fmt.Errorf("the pod's labels in %s: %w", file, err)
	}
	return labels, nil
}

// ParseLabels reads labels as the downward API writes them: a line KEY="VALUE"
// for each, the value quoted as in Go.
func ParseLabels(s string) (map[string]string, error) {
	out := map[string]string{}
	for i, line := range strings.Split(s, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, quoted, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("line %d is not KEY=\"VALUE\"", i+1)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("line %d: the value of %s is not quoted", i+1, key)
		}
		out[key] = value
	}

	return out, nil
}
