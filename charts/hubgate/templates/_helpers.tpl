{{- define "hubgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "hubgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains (include "hubgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "hubgate.name" .) | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "hubgate.selector" -}}
app.kubernetes.io/name: {{ include "hubgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hubgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hubgate
{{ include "hubgate.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hubgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "hubgate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "hubgate.image" -}}
{{- $i := index . 1 -}}
{{- if $i.digest -}}
{{ $i.repository }}@{{ $i.digest }}
{{- else -}}
{{ $i.repository }}:{{ $i.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The name under which Envoys find every replica. */}}
{{- define "hubgate.headless" -}}
{{ include "hubgate.fullname" . }}-headless.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{- define "hubgate.mtls" -}}
{{- if ne .Values.mtls.mode "off" }}true{{ end -}}
{{- end -}}

{{- define "hubgate.serverSecret" -}}
{{- if eq .Values.mtls.mode "certManager" }}{{ include "hubgate.fullname" . }}-tls{{ else }}{{ .Values.mtls.existingSecret }}{{ end -}}
{{- end -}}

{{- define "hubgate.clientSecret" -}}
{{- if eq .Values.mtls.mode "certManager" }}{{ include "hubgate.fullname" . }}-client-tls{{ else }}{{ .Values.mtls.existingClientSecret }}{{ end -}}
{{- end -}}

{{- define "hubgate.gatewayTLSSecret" -}}
{{- if .Values.gateway.tls.certManager.enabled }}{{ include "hubgate.fullname" . }}-gateway-tls{{ else }}{{ .Values.gateway.tls.existingSecret }}{{ end -}}
{{- end -}}

{{/* Checks go on for as long as the gateway still takes devices, should both end at once. */}}
{{- define "hubgate.drainDelay" -}}
{{- $d := .Values.drain.delaySeconds | int -}}
{{- if .Values.gateway.enabled -}}
{{- $d = max $d (add (.Values.gateway.drain.delaySeconds | int) 5) -}}
{{- end -}}
{{- $d -}}
{{- end -}}

{{- define "hubgate.storeURL" -}}
{{- $s := .Values.store -}}
{{- if eq $s.type "embedded" -}}
bolt:///var/lib/hubgate/hubgate.db
{{- else if $s.redis.url -}}
{{- $s.redis.url -}}
{{- else -}}
{{- $scheme := ternary "rediss" "redis" $s.redis.tls.enabled -}}
{{- $user := "" -}}
{{- with $s.redis.username }}{{ $user = printf "%s@" (. | urlquery) }}{{ end -}}
{{- $hosts := join "," $s.redis.addresses -}}
{{- if eq $s.redis.mode "cluster" -}}
{{ $scheme }}+cluster://{{ $user }}{{ $hosts }}
{{- else if eq $s.redis.mode "sentinel" -}}
{{ $scheme }}+sentinel://{{ $user }}{{ $hosts }}/{{ $s.redis.master }}/{{ $s.redis.database }}
{{- else -}}
{{ $scheme }}://{{ $user }}{{ $hosts }}/{{ $s.redis.database }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The path of one certificate or list of a hub, or its address: (list hub-name kind index source). */}}
{{- define "hubgate.certificatePath" -}}
{{- $hub := index . 0 -}}{{- $kind := index . 1 -}}{{- $i := index . 2 -}}{{- $c := index . 3 -}}
{{- if $c.url -}}
{{- $c.url -}}
{{- else if $c.pem -}}
/etc/hubgate/cas/inline/{{ $hub }}-{{ $kind }}-{{ $i }}.pem
{{- else if $c.configMap -}}
/etc/hubgate/cas/configmap/{{ $c.configMap.name }}/{{ $c.configMap.key }}
{{- else -}}
/etc/hubgate/cas/secret/{{ $c.secret.name }}/{{ $c.secret.key }}
{{- end -}}
{{- end -}}

{{- define "hubgate.inlineCAs" -}}
{{- $d := dict -}}
{{- range $h := .Values.hubs -}}
{{- range $kind, $list := dict "anchor" ($h.trustAnchors | default list) "intermediate" ($h.intermediates | default list) -}}
{{- range $i, $c := $list -}}
{{- if $c.pem }}{{ $_ := set $d (printf "%s-%s-%d.pem" $h.name $kind $i) $c.pem }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $d -}}
{{- end -}}

{{/* What is mounted to be read: a list of {name, path, kind, source}. Whole
directories, never subPath, which would not follow changes. */}}
{{- define "hubgate.mounts" -}}
{{- $v := .Values -}}
{{- $full := include "hubgate.fullname" . -}}
{{- $m := list (dict "name" "config" "path" "config" "kind" "configMap" "source" $full) -}}
{{- if include "hubgate.mtls" . -}}
{{- $m = append $m (dict "name" "tls" "path" "tls" "kind" "secret" "source" (include "hubgate.serverSecret" .)) -}}
{{- end -}}
{{- if and $v.admin.enabled $v.admin.existingSecret -}}
{{- $m = append $m (dict "name" "admin-tls" "path" "admin-tls" "kind" "secret" "source" $v.admin.existingSecret) -}}
{{- end -}}
{{- if and $v.brokerAuth.enabled $v.brokerAuth.existingSecret -}}
{{- $m = append $m (dict "name" "broker-tls" "path" "broker-tls" "kind" "secret" "source" $v.brokerAuth.existingSecret) -}}
{{- end -}}
{{- if eq $v.store.type "redis" -}}
{{- with $v.store.redis.existingSecret }}{{ $m = append $m (dict "name" "redis" "path" "redis" "kind" "secret" "source" .) }}{{ end -}}
{{- with $v.store.redis.tls.existingSecret }}{{ $m = append $m (dict "name" "redis-tls" "path" "redis-tls" "kind" "secret" "source" .) }}{{ end -}}
{{- end -}}
{{- if include "hubgate.inlineCAs" . | fromYaml -}}
{{- $m = append $m (dict "name" "cas" "path" "cas/inline" "kind" "configMap" "source" (printf "%s-cas" $full)) -}}
{{- end -}}
{{- range $kind := list "configMap" "secret" -}}
{{- $names := list -}}
{{- range $h := $v.hubs -}}
{{- range $c := concat ($h.trustAnchors | default list) ($h.intermediates | default list) ($h.crls | default list) -}}
{{- with index $c $kind }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $i, $name := $names | uniq | sortAlpha -}}
{{- $m = append $m (dict "name" (printf "ca-%s-%d" (lower $kind) $i) "path" (printf "cas/%s/%s" (lower $kind) $name) "kind" $kind "source" $name) -}}
{{- end -}}
{{- end -}}
{{- $names := $v.mountSecrets -}}
{{- if $v.admin.enabled -}}
{{- range $v.admin.tokens }}{{ $names = append $names .existingSecret }}{{ end -}}
{{- end -}}
{{- if $v.brokerAuth.enabled -}}
{{- range $v.brokerAuth.services }}{{ $names = append $names .existingSecret }}{{ end -}}
{{- end -}}
{{- range $i, $name := $names | uniq | sortAlpha -}}
{{- $m = append $m (dict "name" (printf "secret-%d" $i) "path" (printf "secrets/%s" $name) "kind" "secret" "source" $name) -}}
{{- end -}}
{{- dict "mounts" $m | toYaml -}}
{{- end -}}

{{- define "hubgate.hubs" -}}
{{- $hubs := list -}}
{{- range $h := .Values.hubs -}}
{{- $hub := dict "name" $h.name -}}
{{- with $h.id }}{{ $_ := set $hub "id" . }}{{ end -}}
{{- range $key, $value := dict "enabled" "enabled" "autoProvisioning" "auto_provisioning" "sniOnly" "sni_only" "unicodeNames" "unicode_names" -}}
{{- if hasKey $h $key }}{{ $_ := set $hub $value (index $h $key) }}{{ end -}}
{{- end -}}
{{- with $h.policy -}}
{{- $policy := deepCopy . -}}
{{- range $key := list "max_devices" "first_connections_per_second" -}}
{{- if hasKey $policy $key }}{{ $_ := set $policy $key (index $policy $key | int) }}{{ end -}}
{{- end -}}
{{- $_ := set $hub "policy" $policy -}}
{{- end -}}
{{- range $kind, $key := dict "anchor" "trustAnchors" "intermediate" "intermediates" "crl" "crls" -}}
{{- $paths := list -}}
{{- range $i, $c := index $h $key }}{{ $paths = append $paths (include "hubgate.certificatePath" (list $h.name $kind $i $c)) }}{{ end -}}
{{- if $paths }}{{ $_ := set $hub (snakecase $key) $paths }}{{ end -}}
{{- end -}}
{{- $hubs = append $hubs $hub -}}
{{- end -}}
{{- dict "hubs" $hubs | toYaml -}}
{{- end -}}

{{/* hubgate.yaml without what a running hubgate reloads. */}}
{{- define "hubgate.config" -}}
{{- $v := .Values -}}
{{- $full := include "hubgate.fullname" . -}}
{{- $c := dict "store" (include "hubgate.storeURL" .) "partitions" ($v.store.partitions | int) -}}
{{- with $v.domain }}{{ $_ := set $c "domain" . }}{{ end -}}
{{- $authz := dict "listen" (printf ":%d" ($v.ports.authz | int)) "max_in_flight" ($v.authz.maxInFlight | int) "deny_detail" $v.authz.denyDetail "outage_window" $v.authz.outageWindow -}}
{{- $link := dict "listen" (printf ":%d" ($v.ports.link | int)) -}}
{{- range $s := list $authz $link -}}
{{- if include "hubgate.mtls" $ -}}
{{- $_ := set $s "tls" (dict "cert" "/etc/hubgate/tls/tls.crt" "key" "/etc/hubgate/tls/tls.key" "client_ca" "/etc/hubgate/tls/ca.crt") -}}
{{- else -}}
{{- $_ := set $s "insecure" true -}}
{{- end -}}
{{- end -}}
{{- $_ := set $c "authz" $authz -}}
{{- $_ := set $c "link" $link -}}
{{- $_ := set $c "metrics" (dict "listen" (printf ":%d" ($v.ports.metrics | int))) -}}
{{- $_ := set $c "log" (dict "level" $v.log.level "format" $v.log.format) -}}
{{- $admin := dict "socket" "/run/hubgate/hubgate.sock" -}}
{{- if $v.admin.enabled -}}
{{- $_ := set $admin "listen" (printf ":%d" ($v.ports.admin | int)) -}}
{{- if $v.admin.existingSecret -}}
{{- $_ := set $admin "tls" (dict "cert" "/etc/hubgate/admin-tls/tls.crt" "key" "/etc/hubgate/admin-tls/tls.key") -}}
{{- end -}}
{{- if $v.admin.insecure }}{{ $_ := set $admin "insecure" true }}{{ end -}}
{{- $_ := set $admin "hosts" (concat $v.admin.hosts (list $full (printf "%s.%s" $full .Release.Namespace) (printf "%s.%s.svc" $full .Release.Namespace))) -}}
{{- with $v.admin.region }}{{ $_ := set $admin "region" . }}{{ end -}}
{{- $tokens := list -}}
{{- range $v.admin.tokens -}}
{{- $t := dict "name" .name "role" .role "file" (printf "/etc/hubgate/secrets/%s/%s" .existingSecret .key) -}}
{{- with .project }}{{ $_ := set $t "project" . }}{{ end -}}
{{- $tokens = append $tokens $t -}}
{{- end -}}
{{- with $tokens }}{{ $_ := set $admin "tokens" . }}{{ end -}}
{{- $_ := set $admin "token_file" "/run/hubgate/hubgate.token" -}}
{{- else -}}
{{- $_ := set $admin "listen" "off" -}}
{{- end -}}
{{- $_ := set $c "admin" $admin -}}
{{- if $v.brokerAuth.enabled -}}
{{- $broker := dict "listen" (printf ":%d" ($v.ports.broker | int)) "username" $v.gateway.mqtt.userName -}}
{{- if $v.brokerAuth.existingSecret -}}
{{- $_ := set $broker "tls" (dict "cert" "/etc/hubgate/broker-tls/tls.crt" "key" "/etc/hubgate/broker-tls/tls.key" "client_ca" "/etc/hubgate/broker-tls/ca.crt") -}}
{{- else -}}
{{- $_ := set $broker "insecure" true -}}
{{- end -}}
{{- $services := list -}}
{{- range $v.brokerAuth.services -}}
{{- $s := dict "username" .username "password_file" (printf "/etc/hubgate/secrets/%s/%s" .existingSecret .key) -}}
{{- with .topics }}{{ $_ := set $s "topics" . }}{{ end -}}
{{- $services = append $services $s -}}
{{- end -}}
{{- with $services }}{{ $_ := set $broker "services" . }}{{ end -}}
{{- $_ := set $c "broker_auth" $broker -}}
{{- end -}}
{{- with $v.events }}{{ $_ := set $c "events" . }}{{ end -}}
{{- $crl := dict "refresh" $v.crl.refresh -}}
{{- with $v.crl.networks }}{{ $_ := set $crl "networks" . }}{{ end -}}
{{- $_ := set $c "crl" $crl -}}
{{- if eq $v.store.type "redis" -}}
{{- $r := $v.store.redis -}}
{{- if $r.passwordKey }}{{ $_ := set $c "store_password_file" (printf "/etc/hubgate/redis/%s" $r.passwordKey) }}{{ end -}}
{{- $redis := dict -}}
{{- if $r.waitReplicas }}{{ $_ := set $redis "wait_replicas" ($r.waitReplicas | int) }}{{ end -}}
{{- with $r.sentinelUsername }}{{ $_ := set $redis "sentinel_username" . }}{{ end -}}
{{- with $r.sentinelPasswordKey }}{{ $_ := set $redis "sentinel_password_file" (printf "/etc/hubgate/redis/%s" .) }}{{ end -}}
{{- if $r.tls.existingSecret -}}
{{- $_ := set $c "store_ca_file" "/etc/hubgate/redis-tls/ca.crt" -}}
{{- if $r.tls.clientCertificate -}}
{{- $_ := set $redis "cert" "/etc/hubgate/redis-tls/tls.crt" -}}
{{- $_ := set $redis "key" "/etc/hubgate/redis-tls/tls.key" -}}
{{- end -}}
{{- end -}}
{{- with $redis }}{{ $_ := set $c "redis" . }}{{ end -}}
{{- end -}}
{{- mustMergeOverwrite $c (deepCopy $v.extraConfig) | toYaml -}}
{{- end -}}

{{/* Softly over zones and nodes, unless others are given: (list root component given). */}}
{{- define "hubgate.spread" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- with index . 2 -}}
{{ toYaml . }}
{{- else -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "hubgate.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ $component }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* What every pod of the chart has in common: (list root values component). */}}
{{- define "hubgate.pod" -}}
{{- $root := index . 0 -}}{{- $v := index . 1 -}}
serviceAccountName: {{ include "hubgate.serviceAccount" $root }}
automountServiceAccountToken: {{ $root.Values.serviceAccount.automount }}
enableServiceLinks: false
securityContext: {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v }}
topologySpreadConstraints: {{- include "hubgate.spread" (list $root (index $ 2) .topologySpreadConstraints) | nindent 2 }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* PodDisruptionBudget and HorizontalPodAutoscaler of a Deployment: (list root values component name). */}}
{{- define "hubgate.availability" -}}
{{- $root := index . 0 -}}{{- $v := index . 1 -}}{{- $component := index . 2 -}}{{- $name := index . 3 -}}
{{- if $v.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "hubgate.labels" $root | nindent 4 }}
spec:
  maxUnavailable: {{ $v.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "hubgate.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ $component }}
{{- end }}
{{- with $v.autoscaling }}
{{- if .enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels: {{- include "hubgate.labels" $root | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .targetCPUUtilizationPercentage }}}
    {{- with .metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .behavior }}
  behavior: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}
