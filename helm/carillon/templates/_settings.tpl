{{- /* What the nodes are told: variables, files of secrets, and the times of their end. */ -}}

{{- /* Where the files of secrets are, each under its variable's name. */ -}}
{{- define "carillon.secretsPath" -}}/etc/carillon/secrets{{- end -}}

{{- /* Where the certificate is. */ -}}
{{- define "carillon.tlsPath" -}}/etc/carillon/tls{{- end -}}

{{- /* Where the device socket's directory is. */ -}}
{{- define "carillon.socketPath" -}}/run/carillon{{- end -}}

{{- /* Variables whose value is a path already, so that the file is named by the variable itself. */ -}}
{{- define "carillon.pathVariables" -}}JWT_JWKS REDIS_CA WEBHOOK_CA{{- end -}}

{{- /* The name of the chart's own Secret. */ -}}
{{- define "carillon.secretName" -}}{{- include "carillon.fullname" . -}}{{- end -}}

{{- /*
What everything of the bundled Redis is called. A StatefulSet's name ends up in a label of its pods with a hash behind it, so that
it may have no more than 52 characters. What is cut off stands there as a hash: two releases whose names differ at their ends alone
have two.
*/ -}}
{{- define "carillon.redisName" -}}
{{- $fullname := include "carillon.fullname" . -}}
{{- if gt (len $fullname) 46 -}}
{{- $fullname = printf "%s-%s" ($fullname | trunc 37 | trimSuffix "-") (sha256sum $fullname | trunc 8) -}}
{{- end -}}
{{- printf "%s-redis" $fullname -}}
{{- end -}}

{{- /* The Secret of the bundled Redis. */ -}}
{{- define "carillon.redisSecretName" -}}
{{- default (include "carillon.redisName" .) .Values.redis.bundled.existingSecret -}}
{{- end -}}

{{- /*
The bundled Redis's password: the one in the values, else the one that it has, else a new one. Kept in the values, as each call of
randAlphaNum gives another.
*/ -}}
{{- define "carillon.redisPassword" -}}
{{- $redis := .Values.redis.bundled -}}
{{- if not $redis.password -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "carillon.redisSecretName" .) -}}
{{- if and $found $found.data (hasKey $found.data "password") -}}
{{- $_ := set $redis "password" (b64dec $found.data.password) -}}
{{- else -}}
{{- $_ := set $redis "password" (randAlphaNum 32) -}}
{{- end -}}
{{- end -}}
{{- $redis.password -}}
{{- end -}}

{{- /* The values of the chart's own Secret, as YAML; nothing where it has none. */ -}}
{{- define "carillon.ownSecrets" -}}
{{- range $name, $secret := .Values.secrets -}}
{{- if hasKey $secret "value" }}
{{ $name }}: {{ include "carillon.text" $secret.value | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Those of them that nodes read when they start and never again. */ -}}
{{- define "carillon.fixedSecrets" -}}
{{- $followed := .Files.Lines "files/followed.txt" -}}
{{- range $name, $secret := .Values.secrets -}}
{{- if and (hasKey $secret "value") (not (has $name $followed)) }}
{{ $name }}: {{ include "carillon.text" $secret.value | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* All secrets, as the sources of a projected volume. */ -}}
{{- define "carillon.secretSources" -}}
{{- $own := list -}}
{{- range $name, $secret := .Values.secrets -}}
{{- if hasKey $secret "value" -}}{{- $own = append $own $name -}}{{- end -}}
{{- end -}}
{{- with $own }}
- secret:
    name: {{ include "carillon.secretName" $ | quote }}
    items:
      {{- range . }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- range $name, $secret := .Values.secrets }}
{{- if not (hasKey $secret "value") }}
- secret:
    name: {{ $secret.existingSecret | quote }}
    items:
      - key: {{ $secret.key | default $name | quote }}
        path: {{ $name }}
{{- end }}
{{- end }}
{{- if .Values.redis.bundled.enabled }}
- secret:
    name: {{ include "carillon.redisSecretName" . | quote }}
    items:
      - key: REDIS_URL
        path: REDIS_URL
{{- end }}
{{- end -}}

{{- /* Where a secret of that name is, for others than the nodes: as a reference to a key. Takes a list: the root and the name. */ -}}
{{- define "carillon.secretKey" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $secret := index $root.Values.secrets $name -}}
{{- if hasKey $secret "value" -}}
name: {{ include "carillon.secretName" $root | quote }}
key: {{ $name }}
{{- else -}}
name: {{ $secret.existingSecret | quote }}
key: {{ $secret.key | default $name | quote }}
{{- end -}}
{{- end -}}

{{- /* Variables that the chart sets by other values than `config` and `secrets`: each with those values. */ -}}
{{- define "carillon.modelled" -}}
WS_HOST: listenAddress
HTTP_HOST: listenAddress
WS_PORT: ports.websocket
PORT: ports.websocket
HTTP_PORT: ports.http
METRICS_PORT: ports.metrics
DRAIN_DELAY: drain.delaySeconds
DRAIN_PERIOD: drain.periodSeconds
TLS_CERT: tls.existingSecret
TLS_KEY: tls.existingSecret
HTTP_TLS: tls.http
UNIX_SOCKET: deviceSocket.enabled
UNIX_SOCKET_MODE: deviceSocket.mode
{{- end -}}

{{- /* A node's environment, without what extraEnv adds. */ -}}
{{- define "carillon.env" -}}
- name: WS_HOST
  value: {{ .Values.listenAddress | quote }}
- name: HTTP_HOST
  value: {{ .Values.listenAddress | quote }}
- name: WS_PORT
  value: {{ .Values.ports.websocket | int | quote }}
- name: HTTP_PORT
  value: {{ .Values.ports.http | int | quote }}
- name: METRICS_PORT
  value: {{ .Values.ports.metrics | int | quote }}
- name: DRAIN_DELAY
  value: {{ printf "%ss" (include "carillon.drainDelay" .) | quote }}
- name: DRAIN_PERIOD
  value: {{ printf "%ds" (int .Values.drain.periodSeconds) | quote }}
{{- if .Values.tls.existingSecret }}
- name: TLS_CERT
  value: {{ include "carillon.tlsPath" . }}/tls.crt
- name: TLS_KEY
  value: {{ include "carillon.tlsPath" . }}/tls.key
- name: HTTP_TLS
  value: {{ .Values.tls.http | quote }}
{{- end }}
{{- if .Values.deviceSocket.enabled }}
- name: UNIX_SOCKET
  value: {{ include "carillon.socketPath" . }}/push.sock
- name: UNIX_SOCKET_MODE
  value: {{ .Values.deviceSocket.mode | quote }}
{{- end }}
{{- $secrets := keys .Values.secrets }}
{{- if .Values.redis.bundled.enabled }}
{{- $secrets = append $secrets "REDIS_URL" }}
{{- end }}
{{- $paths := splitList " " (include "carillon.pathVariables" .) }}
{{- range sortAlpha $secrets }}
- name: {{ . }}{{ if not (has . $paths) }}_FILE{{ end }}
  value: {{ include "carillon.secretsPath" $ }}/{{ . }}
{{- end }}
{{- range $name, $value := .Values.config }}
- name: {{ $name }}
  value: {{ include "carillon.text" $value | quote }}
{{- end }}
{{- end -}}

{{- /* A time of a variable (500ms, 10s, 2m, 1h, 10) in whole seconds, rounded up; those of a wrong form are the program's to report. */ -}}
{{- define "carillon.seconds" -}}
{{- $text := toString . | trim -}}
{{- $number := regexFind "^[0-9]+" $text | default "0" | int64 -}}
{{- $unit := regexReplaceAll "^[0-9]+ *" $text "" -}}
{{- if eq $unit "ms" -}}
{{- div (add $number 999) 1000 -}}
{{- else if has $unit (list "m" "min") -}}
{{- mul $number 60 -}}
{{- else if eq $unit "h" -}}
{{- mul $number 3600 -}}
{{- else -}}
{{- $number -}}
{{- end -}}
{{- end -}}

{{- /* Where a pod can't be told to sleep before SIGTERM, the node waits as long after it. */ -}}
{{- define "carillon.drainDelay" -}}
{{- if include "carillon.canSleep" . -}}
{{- int .Values.drain.delaySeconds -}}
{{- else -}}
{{- add (int .Values.drain.delaySeconds) (int .Values.drain.preStopSeconds) -}}
{{- end -}}
{{- end -}}

{{- /* "true" where an application is told of connections. */ -}}
{{- define "carillon.hasWebhook" -}}
{{- $found := or (hasKey .Values.config "WEBHOOK_URL") (hasKey .Values.secrets "WEBHOOK_URL") -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "WEBHOOK_URL" "WEBHOOK_URL_FILE") -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- if $found -}}true{{- end -}}
{{- end -}}

{{- /*
How long a new node has to be ready before the next old one is stopped: where there is no value as long as it takes until the clients
of the one before have moved. Without Redis nobody waits for it.
*/ -}}
{{- define "carillon.minReadySeconds" -}}
{{- if not (kindIs "invalid" .Values.rollout.minReadySeconds) -}}
{{- int .Values.rollout.minReadySeconds -}}
{{- else if include "carillon.hasRedis" . -}}
{{- add (int .Values.drain.preStopSeconds) (int .Values.drain.delaySeconds) (int .Values.drain.periodSeconds) -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{- /* The time that an end in order takes at most. */ -}}
{{- define "carillon.endSeconds" -}}
{{- $drain := .Values.drain -}}
{{- $sum := add (int $drain.preStopSeconds) (int $drain.delaySeconds) (int $drain.periodSeconds) (int $drain.marginSeconds) -}}
{{- if include "carillon.hasWebhook" . -}}
{{- $timeout := include "carillon.text" (get .Values.config "WEBHOOK_TIMEOUT" | default "5s") -}}
{{- $sum = add $sum (include "carillon.seconds" $timeout | int) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{- define "carillon.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- include "carillon.endSeconds" . -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}
