package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	securityapi "istio.io/api/security/v1alpha1"
)

// Signer turns a certificate request into a chain, leaf first.
type Signer interface {
	// Sign sends the PEM request and asks for a certificate valid for ttl.
	Sign(ctx context.Context, csrPEM string, ttl time.Duration) (chainPEM []string, err error)
}

// CAClient is the Signer that asks the mesh's CA by
// istio.v1.auth.IstioCertificateService/CreateCertificate. It opens a
// connection per request: there is one request in twelve hours.
type CAClient struct {
	// Address is HOST:PORT.
	Address string
	// TLS gives the configuration for each connection, so that a changed
	// trust bundle counts at once.
	TLS func() (*tls.Config, error)
	// TokenFile holds the service account token that proves who asks. It is
	// read at each request, since the kubelet renews it. A certificate is no
	// substitute: it would renew itself for ever, long after its pod is gone.
	TokenFile string
	// Cluster is the one that the token is of; it may be empty.
	Cluster string
}

// connectTimeout is short: a name that DNS still has at an address where nobody
// is any more is asked again soon.
const connectTimeout = 3 * time.Second

// Sign implements [Signer].
func (c *CAClient) Sign(ctx context.Context, csrPEM string, ttl time.Duration) ([]string, error) {
	cfg, err := c.TLS()
	if err != nil {
		return nil, err
	}

	token, err := ReadToken(c.TokenFile)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, fmt.Errorf("there is no service account token in %s: the kubelet writes it there from the pod's projected volume; without it the CA signs nothing", c.TokenFile)
	}
	ctx = WithCluster(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), c.Cluster)

	// passthrough: the address goes to the dialer as it is, which tries all that
	// DNS has; gRPC's own resolver looks again only every half minute.
	conn, err := grpc.NewClient("passthrough:///"+c.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(cfg)), grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: connectTimeout}))
	if err != nil {
		return nil, fmt.Errorf("ask CA %s: %w", c.Address, err)
	}
	defer conn.Close()

	resp, err := securityapi.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx,
		&securityapi.IstioCertificateRequest{Csr: csrPEM, ValidityDuration: int64(ttl / time.Second)},
		grpc.WaitForReady(false))
	if err != nil {
		return nil, fmt.Errorf("ask CA %s: %w", c.Address, rpcError(err))
	}
	return resp.GetCertChain(), nil
}

// rpcError drops the wrapping that gRPC puts around a dial error, which says
// the same twice.
func rpcError(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	msg := strings.TrimPrefix(s.Message(), "connection error: desc = ")
	return fmt.Errorf("%s: %s", s.Code(), strings.Trim(msg, `"`))
}

// WithToken adds the token in a file to the metadata of outgoing calls, as
// "authorization: Bearer TOKEN". Without a file name, or when the file does not
// exist, ctx comes back as it is.
func WithToken(ctx context.Context, file string) (context.Context, error) {
	token, err := ReadToken(file)
	if err != nil || token == "" {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// ReadToken reads a token file. A missing file is no error: the token is "".
func ReadToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}

	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read service account token: %w", err)
	}

	token := strings.TrimSpace(string(data))
	if strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("service account token %s holds white space", file)
	}
	return token, nil
}
