{{/* The pod template of every kind of workload. */}}
{{- define "entrepot.pod" -}}
{{- $s3Secret := include "entrepot.s3Secret" . -}}
metadata:
  labels:
    {{- include "entrepot.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "entrepot.serviceAccountName" . }}
  automountServiceAccountToken: {{ .Values.doctor.enabled }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "entrepot.gracePeriod" . }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- if or (include "entrepot.needsOwner" .) (not .Values.admin.existingSecret) }}
  initContainers:
    {{- if include "entrepot.needsOwner" . }}
    {{- $owner := printf "%d:%d" (int .Values.podSecurityContext.runAsUser) (int .Values.podSecurityContext.runAsGroup) }}
    # The kubelet makes the directory for root, and fsGroup does not apply to it.
    - name: own-cache
      image: {{ include "entrepot.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - sh
        - -c
        - '[ "$(stat -c %u:%g /var/lib/entrepot)" = {{ $owner }} ] || chown -R {{ $owner }} /var/lib/entrepot'
      securityContext:
        runAsUser: 0
        runAsGroup: 0
        runAsNonRoot: false
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          add: [CHOWN, DAC_READ_SEARCH]
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: cache
          mountPath: /var/lib/entrepot
    {{- end }}
    {{- if not .Values.admin.existingSecret }}
    # A token of this pod alone: one in a Secret would be another one at every rendering.
    - name: admin-token
      image: {{ include "entrepot.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - node
        - --eval
        - |
          const { randomBytes } = require('node:crypto')
          const { existsSync, writeFileSync } = require('node:fs')
          const file = '/etc/entrepot/admin/token'
          if (!existsSync(file)) writeFileSync(file, `${randomBytes(32).toString('hex')}\n`, { mode: 0o440 })
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: admin
          mountPath: /etc/entrepot/admin
    {{- end }}
  {{- end }}
  containers:
    - name: entrepot
      image: {{ include "entrepot.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- if include "entrepot.hasUpstreams" . }}
        - --upstream-config-file
        - /etc/entrepot/upstreams/upstreams.yaml
        {{- end }}
        {{- with .Values.config.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        - {{ .Values.storage.mode }}
      env:
        - name: LISTEN
          value: {{ printf "%s:8080" .Values.config.listenHost | quote }}
        {{- if .Values.tls.enabled }}
        - name: LISTEN_TLS
          value: {{ printf "%s:8443" .Values.config.listenHost | quote }}
        - name: TLS_CERT
          value: /etc/entrepot/tls/tls.crt
        - name: TLS_KEY
          value: /etc/entrepot/tls/tls.key
        {{- if .Values.tls.clientCaSecret }}
        - name: TLS_CLIENT_CA
          value: /etc/entrepot/client-ca/ca.crt
        - name: TLS_CLIENT_AUTH
          value: {{ .Values.tls.clientAuth }}
        {{- end }}
        {{- end }}
        - name: ADMIN_LISTEN
          value: {{ ternary (printf "%s:%d" .Values.config.listenHost (int .Values.metrics.port)) "127.0.0.1:8081" .Values.metrics.enabled | quote }}
        - name: ADMIN_TOKEN_FILE
          value: /etc/entrepot/admin/token
        {{- include "entrepot.settings" . | nindent 8 }}
        {{- if .Values.peers.enabled }}
        {{- include "entrepot.peerEnv" . | nindent 8 }}
        {{- end }}
        {{- if $s3Secret }}
        - name: S3_ACCESS_KEY
          valueFrom:
            secretKeyRef:
              name: {{ $s3Secret }}
              key: access_key
        - name: S3_SECRET_KEY
          valueFrom:
            secretKeyRef:
              name: {{ $s3Secret }}
              key: secret_key
        {{- end }}
        {{- with .Values.config.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.config.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8080
          {{- if .Values.hostPort.enabled }}
          hostPort: {{ .Values.hostPort.port }}
          {{- with .Values.hostPort.hostIP }}
          hostIP: {{ . }}
          {{- end }}
          {{- end }}
        {{- if .Values.tls.enabled }}
        - name: https
          containerPort: 8443
        {{- end }}
        {{- if .Values.metrics.enabled }}
        - name: metrics
          containerPort: {{ .Values.metrics.port }}
        {{- end }}
        {{- if .Values.peers.enabled }}
        - name: peers
          containerPort: {{ .Values.peers.port }}
        {{- end }}
      {{- with .Values.livenessProbe }}
      livenessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.startupProbe }}
      startupProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: cache
          mountPath: /var/lib/entrepot
        - name: admin
          mountPath: /etc/entrepot/admin
          readOnly: true
        {{- if include "entrepot.hasUpstreams" . }}
        # The whole directory: Kubernetes does not update single files.
        - name: upstreams
          mountPath: /etc/entrepot/upstreams
          readOnly: true
        {{- end }}
        {{- if .Values.peers.enabled }}
        - name: peers
          mountPath: /etc/entrepot/peers
          readOnly: true
        {{- end }}
        {{- if .Values.tls.enabled }}
        - name: tls
          mountPath: /etc/entrepot/tls
          readOnly: true
        {{- if .Values.tls.clientCaSecret }}
        - name: client-ca
          mountPath: /etc/entrepot/client-ca
          readOnly: true
        {{- end }}
        {{- end }}
        {{- range .Values.upstreams.fileSecrets }}
        - name: {{ printf "file-%s" . | trunc 63 }}
          mountPath: /etc/entrepot/files/{{ . }}
          readOnly: true
        {{- end }}
  volumes:
    {{- include "entrepot.volumes" . | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and .Values.topologySpreadConstraints (ne (include "entrepot.workload" .) "DaemonSet") }}
  topologySpreadConstraints:
    {{- $selector := dict "labelSelector" (dict "matchLabels" (fromYaml (include "entrepot.selectorLabels" .))) }}
    {{- range .Values.topologySpreadConstraints }}
    - {{ merge (deepCopy .) $selector | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "entrepot.volumes" -}}
{{- $volumes := fromYamlArray (include "entrepot.cacheVolume" .) -}}
{{- if .Values.admin.existingSecret -}}
{{- $admin := dict "secretName" .Values.admin.existingSecret "defaultMode" 288 -}}
{{- $volumes = append $volumes (dict "name" "admin" "secret" $admin) -}}
{{- else -}}
{{- $volumes = append $volumes (dict "name" "admin" "emptyDir" (dict "medium" "Memory" "sizeLimit" "1Mi")) -}}
{{- end -}}
{{- if include "entrepot.hasUpstreams" . -}}
{{- $secret := dict "secretName" (include "entrepot.upstreamsSecret" .) "defaultMode" 288 -}}
{{- $volumes = append $volumes (dict "name" "upstreams" "secret" $secret) -}}
{{- end -}}
{{- if .Values.peers.enabled -}}
{{- $name := required "peers.existingSecret is required with peers.enabled: a Secret with the key secret, such as the output of openssl rand -hex 32" .Values.peers.existingSecret -}}
{{- $volumes = append $volumes (dict "name" "peers" "secret" (dict "secretName" $name "defaultMode" 288)) -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $secret := dict "secretName" (include "entrepot.serverTlsSecret" .) "defaultMode" 288 -}}
{{- $volumes = append $volumes (dict "name" "tls" "secret" $secret) -}}
{{- with .Values.tls.clientCaSecret -}}
{{- $volumes = append $volumes (dict "name" "client-ca" "secret" (dict "secretName" . "defaultMode" 288)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.upstreams.fileSecrets -}}
{{- $secret := dict "secretName" . "defaultMode" 288 -}}
{{- $volumes = append $volumes (dict "name" (printf "file-%s" . | trunc 63) "secret" $secret) -}}
{{- end -}}
{{- toYaml $volumes -}}
{{- end -}}

{{/* True if the cache is in a directory of the node that root owns and the mirror's user must own. */}}
{{- define "entrepot.needsOwner" -}}
{{- $filesystem := .Values.storage.filesystem -}}
{{- if and (not (include "entrepot.isS3" .)) $filesystem.hostPath $filesystem.chownHostPath .Values.podSecurityContext.runAsUser }}true{{ end -}}
{{- end -}}

{{/* The volume of the cache; empty for a StatefulSet, whose claim templates bring it. */}}
{{- define "entrepot.cacheVolume" -}}
{{- $filesystem := .Values.storage.filesystem -}}
{{- if include "entrepot.isS3" . -}}
- name: cache
  emptyDir:
    sizeLimit: {{ .Values.storage.s3.spoolSizeLimit }}
{{- else if $filesystem.hostPath -}}
- name: cache
  hostPath:
    path: {{ $filesystem.hostPath }}
    type: DirectoryOrCreate
{{- else if not $filesystem.persistence.enabled -}}
- name: cache
  emptyDir:
    sizeLimit: {{ $filesystem.emptyDirSizeLimit }}
{{- else if $filesystem.persistence.existingClaim -}}
- name: cache
  persistentVolumeClaim:
    claimName: {{ $filesystem.persistence.existingClaim }}
{{- else if eq (include "entrepot.workload" .) "Deployment" -}}
- name: cache
  persistentVolumeClaim:
    claimName: {{ include "entrepot.fullname" . }}
{{- end -}}
{{- end -}}

{{- define "entrepot.claimSpec" -}}
{{- with .Values.storage.filesystem.persistence -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- if .storageClass }}
storageClassName: {{ .storageClass }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}
{{- end -}}

{{/* True if this chart creates claims. */}}
{{- define "entrepot.hasOwnClaim" -}}
{{- $filesystem := .Values.storage.filesystem -}}
{{- if and (not (include "entrepot.isS3" .)) $filesystem.persistence.enabled (not $filesystem.persistence.existingClaim) (not $filesystem.hostPath) }}true{{ end -}}
{{- end -}}
