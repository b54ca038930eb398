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
{{- /* The label controller-revision-hash of its pods is the name, a dash and ten characters, of 63 in all. */}}
{{- if and (eq $kind "StatefulSet") (gt (len (include "entrepot.fullname" .)) 52) -}}
{{- fail (printf "the name %s is longer than the 52 characters of a StatefulSet, whose pods could not be made: set fullnameOverride" (include "entrepot.fullname" .)) -}}
{{- end -}}
{{- $kind -}}
{{- end -}}

{{/* The type of the Service. Refuses values that the API server refuses with it, in the words of the values. */}}
{{- define "entrepot.serviceType" -}}
{{- $service := .Values.service -}}
{{- $type := $service.type -}}
{{- if and (eq $type "ClusterIP") $service.nodePort -}}
{{- fail (printf "service.nodePort (%d) needs service.type NodePort or LoadBalancer: a ClusterIP has no port on the nodes" (int $service.nodePort)) -}}
{{- end -}}
{{- if and (eq $type "ClusterIP") $service.externalTrafficPolicy (not $service.externalIPs) -}}
{{- fail "service.externalTrafficPolicy needs service.type NodePort or LoadBalancer, or service.externalIPs" -}}
{{- end -}}
{{- if and (ne $type "LoadBalancer") $service.loadBalancerSourceRanges -}}
{{- fail "service.loadBalancerSourceRanges needs service.type LoadBalancer: networkPolicy.from limits who may pull" -}}
{{- end -}}
{{- if and (eq $service.clusterIP "None") (ne $type "ClusterIP") -}}
{{- fail (printf "service.clusterIP None is a Service without an address, which service.type %s needs: leave clusterIP empty" $type) -}}
{{- end -}}
{{- $ports := list (int $service.port) -}}
{{- if .Values.tls.enabled -}}
{{- if has (int .Values.tls.port) $ports -}}
{{- fail (printf "tls.port and service.port are both %d: they are two ports of one Service" (int $service.port)) -}}
{{- end -}}
{{- end -}}
{{- $type -}}
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

{{/* The bytes of a quantity, so that 1024Mi and 1Gi are the same. */}}
{{- define "entrepot.bytes" -}}
{{- $units := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 -}}
{{- $number := regexFind "^[0-9.]+" (toString .) -}}
{{- printf "%.0f" (mulf (float64 $number) (get $units (trimPrefix $number (toString .)))) -}}
{{- end -}}

{{/*
Refuses another size of the volumes of a StatefulSet that is there: the API server would refuse the whole upgrade, in words that
do not help. Where there is no cluster to ask, lookup finds nothing.
*/}}
{{- define "entrepot.checkVolumeSize" -}}
{{- $name := include "entrepot.fullname" . -}}
{{- $namespace := .Release.Namespace -}}
{{- $wanted := toString .Values.storage.filesystem.persistence.size -}}
{{- range dig "spec" "volumeClaimTemplates" list (lookup "apps/v1" "StatefulSet" $namespace $name) -}}
{{- $has := dig "spec" "resources" "requests" "storage" $wanted . -}}
{{- if ne (include "entrepot.bytes" $has) (include "entrepot.bytes" $wanted) -}}
{{- $selector := printf "app.kubernetes.io/name=%s,app.kubernetes.io/instance=%s" (include "entrepot.name" $) $.Release.Name -}}
{{- $claims := printf "kubectl get pvc --namespace %s --selector %s --output name" $namespace $selector -}}
{{- $patch := printf `{"spec":{"resources":{"requests":{"storage":"%s"}}}}` $wanted -}}
{{- $enlarge := printf "%s | xargs -n 1 kubectl patch --namespace %s --patch '%s'" $claims $namespace $patch -}}
{{- $remove := printf "kubectl delete statefulset %s --namespace %s --cascade=orphan" $name $namespace -}}
{{- fail (printf "storage.filesystem.persistence.size is %s, but StatefulSet %s has volumes of %s, and Kubernetes does not let a StatefulSet change them. To enlarge the volumes, run the two commands below, and upgrade again; pods and caches stay.\n\n%s\n%s\n" $wanted $name $has $enlarge $remove) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pods beside the mirror have another name, so that no Service of the mirror leads to them. */}}
{{- define "entrepot.admissionLabels" -}}
app.kubernetes.io/name: {{ include "entrepot.name" . | trunc 53 | trimSuffix "-" }}-admission
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "entrepot.nodeConfigLabels" -}}
app.kubernetes.io/name: {{ include "entrepot.name" . | trunc 51 | trimSuffix "-" }}-node-config
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "entrepot.admissionName" -}}
{{- include "entrepot.fullname" . | trunc 53 | trimSuffix "-" }}-admission
{{- end -}}

{{- define "entrepot.admissionSecret" -}}
{{- default (printf "%s-tls" (include "entrepot.admissionName" .)) .Values.admission.tls.existingSecret -}}
{{- end -}}

{{/* The address of the mirror as nodes reach it. */}}
{{- define "entrepot.nodeMirror" -}}
{{- if .Values.nodeConfig.mirror -}}
{{- .Values.nodeConfig.mirror -}}
{{- else if .Values.hostPort.enabled -}}
{{- printf "http://%s:%d" (.Values.hostPort.hostIP | default "127.0.0.1") (int .Values.hostPort.port) -}}
{{- else if and (eq .Values.service.type "NodePort") .Values.service.nodePort -}}
{{- printf "http://127.0.0.1:%d" (int .Values.service.nodePort) -}}
{{- else -}}
{{- fail "nodeConfig.mirror is required: the address at which nodes reach the mirror; a hostPort or a service.nodePort of this release would be one" -}}
{{- end -}}
{{- end -}}
