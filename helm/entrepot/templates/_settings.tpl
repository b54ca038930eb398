{{/* The daemon's settings as variables of its environment. What is empty or null is left to the daemon. */}}
{{- define "entrepot.settings" -}}
{{- $config := .Values.config -}}
{{- $settings := dict
  "AUDIT_LOG" $config.auditLog
  "CHECK_CACHE_DIGEST" $config.checkCacheDigest
  "CLIENT_DOWNLOADS" $config.clientDownloads
  "CLIENT_REQUESTS" $config.clientRequests
  "DEFAULT_NAMESPACE" $config.defaultNamespace
  "DRAIN_DELAY" $config.drainDelay
  "DRAIN_TIMEOUT" $config.drainTimeout
  "HTTPS_PROXY" $config.httpsProxy
  "HTTP_PROXY" $config.httpProxy
  "LOG_FORMAT" $config.logFormat
  "LOG_LEVEL" $config.logLevel
  "NAMESPACES" $config.namespaces
  "NAT64_PREFIX" $config.nat64Prefix
  "NO_PROXY" $config.noProxy
  "OFFLINE" $config.offline
  "PASS_THROUGH" $config.passThrough
  "PROVE_RANGES" $config.proveRanges
  "SCRUB_INTERVAL" $config.scrubInterval
  "SCRUB_RATE" $config.scrubRate
  "SENDFILE" $config.sendfile
  "SETUP_SCRIPTS" $config.setupScripts
  "TRACES" $config.traces
  "TRUST_EGRESS_PROXY" $config.trustEgressProxy
  "WORKERS" $config.workers
-}}
{{- $store := fromYaml (include (ternary "entrepot.s3Settings" "entrepot.filesystemSettings" (eq .Values.storage.mode "s3")) .) -}}
{{- range $name, $value := merge $settings $store }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ $name }}
  value: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "entrepot.filesystemSettings" -}}
{{- with .Values.storage.filesystem -}}
DYNAMIC_SHARE: {{ .dynamicShare | quote }}
FILESYSTEM_ROOT: /var/lib/entrepot
MAX_BLOB: {{ .maxBlob | quote }}
MAX_SIZE: {{ .maxSize | quote }}
MIN_FREE: {{ .minFree | quote }}
READ_ONLY: {{ .readOnly }}
{{- end -}}
{{- end -}}

{{- define "entrepot.s3Settings" -}}
{{- with .Values.storage.s3 -}}
S3_HOST: {{ .host | quote }}
S3_REGION: {{ .region | quote }}
S3_BUCKET: {{ .bucket | quote }}
S3_PREFIX: {{ .prefix | quote }}
S3_PATH_STYLE: {{ .pathStyle | quote }}
S3_REDIRECT: {{ .redirect }}
S3_REDIRECT_HOST: {{ .redirectHost | quote }}
S3_SPOOL_DIR: /var/lib/entrepot/spool
DYNAMIC_SHARE: {{ .dynamicShare | quote }}
EVICT_RATE: {{ .evictRate }}
S3_CACHE: {{ .cacheSize | quote }}
SINGLE_WRITER: {{ .singleWriter }}
MAX_BLOB: {{ .maxBlob | quote }}
MAX_SIZE: {{ .maxSize | quote }}
{{- end -}}
{{- end -}}

{{/* The upstream file: a list, or a map of sections if there are others; empty if there is nothing in it. */}}
{{- define "entrepot.upstreamsFile" -}}
{{- $auth := dict -}}
{{- range $key, $value := .Values.auth -}}
{{- if and $value (ne (toString $value) "auto") -}}{{- $_ := set $auth $key $value -}}{{- end -}}
{{- end -}}
{{- $sections := dict -}}
{{- if $auth }}{{ $_ := set $sections "auth" $auth }}{{ end -}}
{{- range $name := list "rules" "hosted" "policies" "notifications" "warm" -}}
{{- with get $.Values $name }}{{ $_ := set $sections $name . }}{{ end -}}
{{- end -}}
{{- if and $sections .Values.upstreams.existingSecret -}}
{{- fail (printf "%s: this belongs in the file of upstreams.existingSecret; leave the value out" (keys $sections | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if $sections -}}
{{- set $sections "upstreams" .Values.upstreams.entries | toYaml -}}
{{- else if .Values.upstreams.entries -}}
{{- toYaml .Values.upstreams.entries -}}
{{- end -}}
{{- end -}}
