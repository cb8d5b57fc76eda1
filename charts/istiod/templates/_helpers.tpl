{{- define "istiod.suffix" -}}
{{- if and .Values.revision (ne .Values.revision "default") -}}-{{ .Values.revision }}{{- end -}}
{{- end -}}

{{- define "istiod.revision" -}}
{{- .Values.revision | default "default" -}}
{{- end -}}

{{- /* The webhook for objects of this revision: the default's has the name that
Istio 1.6 gave it. */ -}}
{{- define "istiod.validatorName" -}}
{{- if include "istiod.suffix" . -}}istio-validator{{ include "istiod.suffix" . }}{{- else -}}istiod{{- end -}}-{{ .Release.Namespace }}
{{- end -}}

{{- define "istiod.labels" -}}
app: istiod
istio: pilot
istio.io/rev: {{ include "istiod.revision" . | quote }}
{{- end -}}

{{- /* What makes a control plane's own pods: revisions must not share any. */ -}}
{{- define "istiod.selector" -}}
app: istiod
istio.io/rev: {{ include "istiod.revision" . | quote }}
{{- end -}}

{{- define "istiod.image" -}}
{{- if contains "/" .image -}}{{ .image }}{{- else -}}{{ .global.hub }}/{{ .image }}:{{ .global.tag }}{{- end -}}
{{- end -}}

{{- /* The level of istiod's log: "debug", or Istio's "default:debug". */ -}}
{{- define "istiod.logLevel" -}}
{{- .Values.global.logging.level | trimPrefix "default:" -}}
{{- end -}}
