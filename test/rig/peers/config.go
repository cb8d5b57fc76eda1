package peers

import (
	"fmt"
	"os"
	"text/template"
)

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, ProxyUID, ProxyUID)
}

func add(nums ...int) int {
	sum := 0
	for _, n := range nums {
		sum += n
	}
	return sum
}

func parse(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(template.FuncMap{
		"plain":  func(port int) int { return add(port, PlainShift) },
		"secure": func(port int) int { return add(port, SecureShift) },
		"tls":    func(port int) int { return add(port, TLSShift) },
		"addr":   func(host string, port int) string { return fmt.Sprintf("%s:%d", host, port) },
	}).Parse(text))
}

var haproxyConfig = parse("haproxy", `global
  nbthread {{.Threads}}
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
{{- define "client-tls"}} ssl verify required verifyhost peer.bench sni str(peer.bench) ca-file {{.Dir}}/root.pem crt {{.Dir}}/pair.pem{{end}}
{{- define "server-tls"}} ssl crt {{.Dir}}/pair.pem ca-file {{.Dir}}/root.pem verify required{{end}}
{{- if .Client}}
listen http1
  bind 127.0.0.1:{{plain .HTTP1}}
  server up {{addr .Plain .HTTP1}}
listen http1s
  bind 127.0.0.1:{{secure .HTTP1}}
  server up {{addr .Server (tls .HTTP1)}}{{template "client-tls" .}}
listen http2
  bind 127.0.0.1:{{plain .HTTP2}} proto h2
  server up {{addr .Plain .HTTP2}} proto h2
listen http2s
  bind 127.0.0.1:{{secure .HTTP2}} proto h2
  server up {{addr .Server (tls .HTTP2)}}{{template "client-tls" .}} alpn h2
listen grpcs
  bind 127.0.0.1:{{secure .GRPC}} proto h2
  server up {{addr .Server (tls .GRPC)}}{{template "client-tls" .}} alpn h2
listen tcp
  mode tcp
  bind 127.0.0.1:{{plain .TCP}}
  server up {{addr .Plain .TCP}}
listen tcps
  mode tcp
  bind 127.0.0.1:{{secure .TCP}}
  server up {{addr .Server (tls .TCP)}}{{template "client-tls" .}}
{{- else}}
listen http1
  bind :{{tls .HTTP1}}{{template "server-tls" .}}
  server up 127.0.0.1:{{.HTTP1}}
listen http2
  bind :{{tls .HTTP2}}{{template "server-tls" .}} alpn h2
  server up 127.0.0.1:{{.HTTP2}} proto h2
listen grpc
  bind :{{tls .GRPC}}{{template "server-tls" .}} alpn h2
  server up 127.0.0.1:{{.GRPC}} proto h2
listen tcp
  mode tcp
  bind :{{tls .TCP}}{{template "server-tls" .}}
  server up 127.0.0.1:{{.TCP}}
{{- end}}
`)

var nginxConfig = parse("nginx", `daemon off;
worker_processes {{.Threads}};
worker_rlimit_nofile 20000;
pid {{.Dir}}/nginx.pid;
error_log stderr warn;
events { worker_connections 10000; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {{.Dir}};
  proxy_temp_path {{.Dir}};
  fastcgi_temp_path {{.Dir}};
  uwsgi_temp_path {{.Dir}};
  scgi_temp_path {{.Dir}};
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  upstream up {
    server {{if .Client}}{{addr .Plain .HTTP1}}{{else}}127.0.0.1:{{.HTTP1}}{{end}};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
{{- if .Client}}
  upstream secure {
    server {{addr .Server (tls .HTTP1)}};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen 127.0.0.1:{{plain .HTTP1}};
    location / { proxy_pass http://up; }
  }
  server {
    listen 127.0.0.1:{{secure .HTTP1}};
    location / {
      proxy_pass https://secure;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_certificate {{.Dir}}/leaf.pem;
      proxy_ssl_certificate_key {{.Dir}}/leaf.key;
      proxy_ssl_trusted_certificate {{.Dir}}/root.pem;
      proxy_ssl_verify on;
      proxy_ssl_name peer.bench;
      proxy_ssl_server_name on;
    }
  }
{{- else}}
  server {
    listen {{tls .HTTP1}} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {{.Dir}}/leaf.pem;
    ssl_certificate_key {{.Dir}}/leaf.key;
    ssl_client_certificate {{.Dir}}/root.pem;
    ssl_verify_client on;
    location / { proxy_pass http://up; }
  }
{{- end}}
}
`)
