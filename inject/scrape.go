package inject

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The annotations by which Prometheus finds a pod's metrics, by convention.
const (
	scrapeAnnotation       = "prometheus.io/scrape"
	scrapePortAnnotation   = "prometheus.io/port"
	scrapePathAnnotation   = "prometheus.io/path"
	scrapeSchemeAnnotation = "prometheus.io/scheme"
)

// scrape is how a pod's metrics are found once it has a proxy.
type scrape struct {
	annotations map[string]string // for the pod; nil leaves it alone
	// app says where the application's own metrics are, as JSON; empty when
	// it has none.
	app string
}

// appScrape points scrapers at the proxy, which gives the application's metrics
// and its own in one answer: with strict mutual TLS a scraper would not reach
// the application. A pod that is not to be scraped is left alone, and so is one
// whose metrics are not to be merged (annotation
// prometheus.istio.io/merge-metrics, meshConfig.enablePrometheusMerge).
func appScrape(pod *corev1.Pod, s *Settings, o *options) (scrape, error) {
	merge := true
	if s.Mesh != nil && s.Mesh.EnablePrometheusMerge != nil {
		merge = s.Mesh.EnablePrometheusMerge.Value
	}
	if o.mergeMetrics != nil {
		merge = *o.mergeMetrics
	}

	asked, wanted := pod.Annotations[scrapeAnnotation]
	if !merge || wanted && asked != "true" {
		return scrape{}, nil
	}

	for k := range pod.Annotations {
		if !wanted && strings.HasPrefix(k, "prometheus.io/") {
			return scrape{}, nil // half a wish: by convention such a pod is not scraped
		}
	}
	if pod.Annotations[scrapePortAnnotation] == fmt.Sprint(statusPort) {
		return scrape{}, nil // its owner asks for the proxy's alone
	}

	out := scrape{annotations: map[string]string{
		scrapeAnnotation:     "true",
		scrapePortAnnotation: fmt.Sprint(statusPort),
		scrapePathAnnotation: "/stats/prometheus",
	}}

	if _, ok := pod.Annotations[scrapeSchemeAnnotation]; ok {
		out.annotations[scrapeSchemeAnnotation] = "http"
	}
	if !wanted {
		return out, nil
	}

	var err error
	out.app, err = appMetrics(pod)
	return out, err
}

// appMetrics says where the application's metrics are, by its annotations.
func appMetrics(pod *corev1.Pod) (string, error) {
	app := struct {
		Scrape string `json:"scrape"`
		Path   string `json:"path"`
		Port   string `json:"port"`
		Scheme string `json:"scheme,omitempty"`
	}{
		Scrape: "true", Path: pod.Annotations[scrapePathAnnotation], Port: pod.Annotations[scrapePortAnnotation],
		Scheme: strings.ToLower(pod.Annotations[scrapeSchemeAnnotation]),
	}
	if app.Path == "" {
		app.Path = "/metrics"
	}
	if app.Port == "" {
		app.Port = strconv.Itoa(int(firstPort(pod)))
	}
	if n, err := strconv.ParseUint(app.Port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("annotation %s: %q is not a port between 1 and 65535", scrapePortAnnotation, app.Port)
	}
	if app.Scheme != "" && app.Scheme != "http" && app.Scheme != "https" {
		return "", fmt.Errorf("annotation %s: %q is neither http nor https", scrapeSchemeAnnotation, app.Scheme)
	}

	js, err := json.Marshal(app)
	return string(js), err
}

// firstPort is the first TCP port that the pod declares, 80 when it declares
// none.
func firstPort(pod *corev1.Pod) int32 {
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
				return p.ContainerPort
			}
		}
	}
	return 80
}
