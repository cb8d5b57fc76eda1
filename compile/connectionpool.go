package compile

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/model"
)

func connectionPool(c *networking.ConnectionPoolSettings) *model.ConnectionPool {
	if c == nil {
		return nil
	}
	tcp, http := c.GetTcp(), c.GetHttp()
	out := &model.ConnectionPool{
		ConnectTimeout: tcp.GetConnectTimeout().AsDuration(),
		Keepalive:      keepalive(tcp.GetTcpKeepalive()),

		MaxConnections: uint32(tcp.GetMaxConnections()),
		MaxPending:     uint32(http.GetHttp1MaxPendingRequests()),
		MaxRequests:    uint32(http.GetHttp2MaxRequests()),
		MaxRetries:     uint32(http.GetMaxRetries()),

		MaxRequestsPerConnection: uint32(http.GetMaxRequestsPerConnection()),
		MaxStreams:               uint32(http.GetMaxConcurrentStreams()),
		MaxAge:                   tcp.GetMaxConnectionDuration().AsDuration(),
		TCPIdle:                  given(tcp.GetIdleTimeout()),
		HTTPIdle:                 given(http.GetIdleTimeout()),
		ClientProtocol:           http.GetUseClientProtocol(),
	}
	if k := http.GetHttp2KeepAlive(); k != nil {
		out.HTTP2Ping = &model.HTTP2Ping{Interval: k.Interval.AsDuration(), Timeout: k.Timeout.AsDuration()}
	}
	return out
}

func keepalive(k *networking.ConnectionPoolSettings_TCPSettings_TcpKeepalive) *model.TCPKeepalive {
	if k == nil {
		return nil
	}
	return &model.TCPKeepalive{Probes: k.Probes, Time: k.Time.AsDuration(), Interval: k.Interval.AsDuration()}
}

func retryBudget(b *networking.TrafficPolicy_RetryBudget) *model.RetryBudget {
	if b == nil {
		return nil
	}
	out := &model.RetryBudget{Percent: number(b.Percent)}
	if n := b.MinRetryConcurrency; n > 0 {
		out.MinConcurrency = &n
	}
	return out
}

// given is a duration that may not be given: nil then.
func given(d *durationpb.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	v := d.AsDuration()
	return &v
}
