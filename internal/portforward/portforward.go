// Package portforward opens ways to ports of pods through the API server.
package portforward

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
)

// To opens a way to a port of a pod, as kubectl port-forward does, calls do with a
// local address, and closes the way again. client and config are of the cluster
// that the pod is in.
func To(ctx context.Context, client kubernetes.Interface, config *rest.Config, namespace, pod string, port int, do func(addr string) error) error {
	url := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod, err)
	}
	overHTTP := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)

	// What goes wrong comes back as an error; the library's log is not needed.
	quiet := klog.NewContext(ctx, logr.Discard())
	quiet, stop := context.WithCancel(quiet)
	defer stop()

	overWebSocket, err := portforward.NewSPDYOverWebsocketDialerForStreamingWithLogger(logr.Discard(), url, config)
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod, err)
	}

	// As kubectl does it: by WebSocket where the API server knows it, else by
	// SPDY.
	dialer := portforward.NewFallbackDialerForStreaming(overWebSocket, overHTTP, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	ready := make(chan struct{})
	fw, err := portforward.NewOnAddressesForStreamingWithContext(quiet, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, ready, io.Discard, io.Discard)
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod, err)
	}

	done := make(chan error, 1)
	go func() { done <- fw.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		return fmt.Errorf("port-forward to %s: %w", pod, err)
	case <-ctx.Done():
		<-done
		return fmt.Errorf("port-forward to %s: %w", pod, ctx.Err())
	}
	defer func() { stop(); <-done }()

	ports, err := fw.GetPorts()
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod, err)
	}
	return do(fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
}
