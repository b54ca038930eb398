{{- define "entrepot.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "entrepot.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "entrepot.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "entrepot.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "entrepot.selectorLabels" -}}
app.kubernetes.io/name: {{ include "entrepot.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "entrepot.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "entrepot.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "entrepot.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $name }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "entrepot.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "entrepot.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "entrepot.isS3" -}}
{{- if eq .Values.storage.mode "s3" }}true{{ end -}}
{{- end -}}

{{/* StatefulSet, Deployment or DaemonSet. Refuses values that contradict each other. */}}
{{- define "entrepot.workload" -}}
{{- $storage := .Values.storage -}}
{{- $persistence := $storage.filesystem.persistence -}}
{{- $kind := .Values.workload | default (ternary "Deployment" "StatefulSet" (eq $storage.mode "s3")) -}}
{{- if and (eq $storage.mode "s3") (not $storage.s3.bucket) -}}
{{- fail "storage.s3.bucket is required with storage.mode s3" -}}
{{- end -}}
{{- if and (eq $storage.mode "filesystem") $persistence.enabled (not $storage.filesystem.hostPath) -}}
{{- $isShared := has "ReadWriteMany" $persistence.accessModes -}}
{{- if eq $kind "DaemonSet" -}}
{{- fail "a DaemonSet keeps its cache on its node: set storage.filesystem.hostPath, or persistence.enabled false" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not $isShared) (or (eq $kind "Deployment") $persistence.existingClaim) -}}
{{- fail "replicas of one volume need accessModes ReadWriteMany: choose workload StatefulSet, one replica, or storage.mode s3" -}}
{{- end -}}
{{- end -}}
{{- $kind -}}
{{- end -}}

{{/* Seconds of config.drainDelay and config.drainTimeout, which are written as the daemon reads them. */}}
{{- define "entrepot.drainSeconds" -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "sec" 1.0 "secs" 1.0 "m" 60.0 "min" 60.0 "mins" 60.0 "h" 3600.0 "hr" 3600.0 "hrs" 3600.0 -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9]+ ?[a-zA-Z]+" (printf "%s %s" .Values.config.drainDelay .Values.config.drainTimeout) -1 -}}
{{- $unit := regexFind "[a-zA-Z]+" . -}}
{{- if not (hasKey $units $unit) }}{{ fail (printf "config.drainDelay or config.drainTimeout: %s is not one of ms, s, m and h" $unit) }}{{ end -}}
{{- $total = addf $total (mulf (regexFind "[0-9]+" . | float64) (get $units $unit)) -}}
{{- end -}}
{{- ceil $total | int -}}
{{- end -}}

{{/* The time that a pod has to end: the kubelet kills it afterwards, in the middle of its transfers. */}}
{{- define "entrepot.gracePeriod" -}}
{{- $drain := include "entrepot.drainSeconds" . | int -}}
{{- $given := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{- add $drain 10 -}}
{{- else if le (int $given) $drain -}}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be longer than config.drainDelay and config.drainTimeout (%ds): raise it, or leave it null" (int $given) $drain) -}}
{{- else -}}
{{- int $given -}}
{{- end -}}
{{- end -}}

{{/* True if two pods must not have the volume at once. */}}
{{- define "entrepot.isVolumeExclusive" -}}
{{- $filesystem := .Values.storage.filesystem -}}
{{- if not (include "entrepot.isS3" .) -}}
{{- if $filesystem.hostPath }}true
{{- else if and $filesystem.persistence.enabled (not (has "ReadWriteMany" $filesystem.persistence.accessModes)) }}true
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "entrepot.hasUpstreams" -}}
{{- if or .Values.upstreams.existingSecret (include "entrepot.upstreamsFile" .) }}true{{ end -}}
{{- end -}}

{{/* The upstream file: a list, or a map of sections if there are others; empty if there is nothing in it. */}}
{{- define "entrepot.upstreamsFile" -}}
{{- $auth := dict -}}
{{- range $key, $value := .Values.auth -}}
{{- if and $value (ne (toString $value) "auto") -}}{{- $_ := set $auth $key $value -}}{{- end -}}
{{- end -}}
{{- if or $auth .Values.rules -}}
{{- if .Values.upstreams.existingSecret -}}
{{- fail "auth and rules belong in the file of upstreams.existingSecret: leave the values out" -}}
{{- end -}}
{{- dict "upstreams" .Values.upstreams.entries "auth" $auth "rules" .Values.rules | toYaml -}}
{{- else if .Values.upstreams.entries -}}
{{- toYaml .Values.upstreams.entries -}}
{{- end -}}
{{- end -}}

{{- define "entrepot.upstreamsSecret" -}}
{{- default (printf "%s-upstreams" (include "entrepot.fullname" .)) .Values.upstreams.existingSecret -}}
{{- end -}}

{{/* The Secret with the keys of the bucket; empty if the SDK finds credentials by itself. */}}
{{- define "entrepot.s3Secret" -}}
{{- $s3 := .Values.storage.s3 -}}
{{- if $s3.existingSecret -}}
{{- $s3.existingSecret -}}
{{- else if $s3.accessKey -}}
{{- printf "%s-s3" (include "entrepot.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the certificate of the mirror itself; the one below is that of an ingress. */}}
{{- define "entrepot.serverTlsSecret" -}}
{{- default (printf "%s-server-tls" (include "entrepot.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{- define "entrepot.tlsSecret" -}}
{{- default (printf "%s-tls" (include "entrepot.fullname" .)) .Values.ingress.tls.secretName -}}
{{- end -}}
