{{- define "gateway.revision" -}}
{{- .Values.revision | default "default" -}}
{{- end -}}

{{- define "gateway.labels" -}}
{{ toYaml .Values.labels }}
istio.io/rev: {{ include "gateway.revision" . | quote }}
{{- end -}}

{{- define "gateway.image" -}}
{{- $g := .Values.global -}}
{{- if contains "/" $g.proxy.image -}}{{ $g.proxy.image }}{{- else -}}{{ $g.hub }}/{{ $g.proxy.image }}:{{ $g.tag }}{{- end -}}
{{- end -}}

{{- define "gateway.proxyConfig" -}}
{{- $istiod := "istiod" -}}
{{- if .Values.global.remotePilotAddress -}}
{{- $istiod = "istiod-remote" -}}
{{- else if ne (include "gateway.revision" .) "default" -}}
{{- $istiod = printf "istiod-%s" .Values.revision -}}
{{- end -}}
{{- $own := dict "discoveryAddress" (printf "%s.%s.svc:15012" $istiod .Values.global.istioNamespace) -}}
{{- mergeOverwrite $own (pick (.Values.meshConfig.defaultConfig | default dict) "discoveryAddress" "terminationDrainDuration" "concurrency") | toJson -}}
{{- end -}}

{{- /* Who signs for the gateway. Where another cluster's istiod steers the
proxies, this cluster's own signs: it can check their tokens. */ -}}
{{- define "gateway.caAddress" -}}
{{- $g := .Values.global -}}
{{- if $g.caAddress -}}
{{ $g.caAddress }}
{{- else if $g.remotePilotAddress -}}
istiod{{ if ne (include "gateway.revision" .) "default" }}-{{ .Values.revision }}{{ end }}.{{ $g.istioNamespace }}.svc:15012
{{- else -}}
{{ (include "gateway.proxyConfig" . | fromJson).discoveryAddress }}
{{- end -}}
{{- end -}}
