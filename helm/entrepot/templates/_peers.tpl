{{/* Replicas that know each other. */}}
{{- define "entrepot.peersName" -}}
{{ include "entrepot.fullname" . | trunc 57 | trimSuffix "-" }}-peers
{{- end -}}

{{- define "entrepot.peerEnv" -}}
- name: PEER_LISTEN
  value: {{ printf "%s:%d" .Values.config.listenHost (int .Values.peers.port) | quote }}
- name: PEERS_DNS
  value: {{ printf "%s.%s.svc:%d" (include "entrepot.peersName" .) .Release.Namespace (int .Values.peers.port) | quote }}
- name: PEER_SECRET_FILE
  value: /etc/entrepot/peers/secret
- name: PEER_CLUSTER
  value: {{ .Values.peers.cluster | default (printf "%s.%s" .Release.Namespace (include "entrepot.fullname" .) | trunc 63 | trimSuffix "-" | trimSuffix ".") | quote }}
{{- end -}}
