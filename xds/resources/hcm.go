package resources

import (
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	snicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

const serverName = "istio-envoy"

// jsonLogFormat is the default of the JSON access log.
const jsonLogFormat = `{"start_time":"%START_TIME%","method":"%REQ(:METHOD)%",` +
	`"path":"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%","protocol":"%PROTOCOL%","response_code":"%RESPONSE_CODE%",` +
	`"response_flags":"%RESPONSE_FLAGS%","bytes_received":"%BYTES_RECEIVED%","bytes_sent":"%BYTES_SENT%",` +
	`"duration":"%DURATION%","user_agent":"%REQ(USER-AGENT)%","request_id":"%REQ(X-REQUEST-ID)%",` +
	`"authority":"%REQ(:AUTHORITY)%","upstream_host":"%UPSTREAM_HOST%","upstream_cluster":"%UPSTREAM_CLUSTER%",` +
	`"downstream_local_address":"%DOWNSTREAM_LOCAL_ADDRESS%","downstream_remote_address":"%DOWNSTREAM_REMOTE_ADDRESS%"}`

func filter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(config)}}
}

// sniCluster makes the tcp_proxy after it take the cluster that the TLS server
// name names.
func sniCluster() *listenerv3.Filter {
	return filter("envoy.filters.network.sni_cluster", &snicv3.SniCluster{})
}

// httpManager is what the two sides of a sidecar have in common for HTTP.
// Timeouts that Envoy sets by itself are off: a mesh that cuts long requests
// breaks applications that worked without it.
func httpManager(mesh *model.Mesh, statPrefix string) *hcmv3.HttpConnectionManager {
	m := &hcmv3.HttpConnectionManager{
		CodecType:         hcmv3.HttpConnectionManager_AUTO,
		StatPrefix:        statPrefix,
		ServerName:        serverName,
		UseRemoteAddress:  wrapperspb.Bool(false),
		StreamIdleTimeout: durationpb.New(0),
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		AccessLog:         accessLog(mesh),
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})},
		}},
	}
	normalizePaths(m, mesh.Paths)
	return m
}

// normalizePaths brings the paths of requests into one form, for routes, policies and the
// application alike.
func normalizePaths(m *hcmv3.HttpConnectionManager, paths model.PathNormalization) {
	m.NormalizePath = wrapperspb.Bool(paths != model.PathsAsTheyCome)
	switch paths {
	case model.PathsMerged:
		m.MergeSlashes = true
	case model.PathsDecoded:
		m.MergeSlashes = true
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	}
}

// outboundHTTP routes by the configuration that RDS gives under the name.
func outboundHTTP(mesh *model.Mesh, routeName string) *listenerv3.Filter {
	m := httpManager(mesh, "outbound_"+routeName)
	m.HttpFilters = slices.Concat(routeFilters(), m.HttpFilters)
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
		ConfigSource: adsSource(), RouteConfigName: routeName,
	}}
	return filter("envoy.filters.network.http_connection_manager", m)
}

// inboundHTTP sends everything that the filters let pass to the application, with the
// caller's identity in x-forwarded-client-cert and nothing that the caller claimed there.
func inboundHTTP(mesh *model.Mesh, port uint16, cluster string, access []*hcmv3.HttpFilter) *listenerv3.Filter {
	m := httpManager(mesh, "inbound_"+utoa(port))
	m.HttpFilters = slices.Concat(access, m.HttpFilters)
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: wrapperspb.Bool(true), Uri: true,
	}
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name:             cluster,
		ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    "inbound|http|" + utoa(port),
			Domains: []string{"*"},
			Routes:  []*routev3.Route{routeTo(cluster)},
		}},
	}}
	return filter("envoy.filters.network.http_connection_manager", m)
}

// routeTo matches everything and never times out.
func routeTo(cluster string) *routev3.Route {
	return &routev3.Route{
		Name:  "default",
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          durationpb.New(0),
		}},
	}
}

// retried is routeTo with the mesh's retries.
func retried(mesh *model.Mesh, cluster string) *routev3.Route {
	r := routeTo(cluster)
	r.GetRoute().RetryPolicy = retryPolicy(mesh.Retry)
	return r
}

// accessLog is empty when the mesh logs nothing.
func accessLog(mesh *model.Mesh) []*accesslogv3.AccessLog {
	if mesh.AccessLog.File == "" {
		return nil
	}

	log := &filelogv3.FileAccessLog{Path: mesh.AccessLog.File}
	format := mesh.AccessLog.Format
	switch {
	case mesh.AccessLog.JSON:
		fields := &structpb.Struct{}
		// A template that is not JSON, which nothing refuses before, must not
		// stop the log.
		if format == "" || protojson.Unmarshal([]byte(format), fields) != nil {
			fields = &structpb.Struct{}
			if err := protojson.Unmarshal([]byte(jsonLogFormat), fields); err != nil {
				panic("xds/resources: the default JSON log format is not JSON: " + err.Error())
			}
		}
		log.AccessLogFormat = &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields},
		}}
	case format != "":
		log.AccessLogFormat = &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: format},
			}},
		}}
	}

	return []*accesslogv3.AccessLog{{
		Name:       "envoy.access_loggers.file",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(log)},
	}}
}
