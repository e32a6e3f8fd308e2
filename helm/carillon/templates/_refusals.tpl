{{- /* Values that can't work together, told with what to do instead. What one value may be by itself is in values.schema.json. */ -}}

{{- define "carillon.refusals" -}}
{{- include "carillon.refuseName" . -}}
{{- include "carillon.refuseMany" . -}}
{{- include "carillon.refuseVariables" . -}}
{{- include "carillon.refuseTimes" . -}}
{{- include "carillon.refuseOpen" . -}}
{{- include "carillon.refuseScaling" . -}}
{{- include "carillon.refuseServices" . -}}
{{- include "carillon.refuseOthers" . -}}
{{- end -}}

{{- define "carillon.refuseName" -}}
{{- $name := include "carillon.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "everything would be called %q: a Service's name begins with a letter and consists of a-z, 0-9 and -. Set fullnameOverride" $name) -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuseMany" -}}
{{- if and (include "carillon.canBeMany" .) (not (include "carillon.hasRedis" .)) -}}
{{- fail "more than one node needs Redis: without one each node keeps its own state, and a push reaches only the clients of the node that took it. Set secrets.REDIS_URL, or redis.bundled.enabled=true, or replicas=1 without autoscaling" -}}
{{- end -}}
{{- if and .Values.redis.bundled.enabled (hasKey .Values.secrets "REDIS_URL") -}}
{{- fail "both redis.bundled.enabled and secrets.REDIS_URL are set: which Redis is it?" -}}
{{- end -}}
{{- if and .Values.redis.bundled.password .Values.redis.bundled.existingSecret -}}
{{- fail "both redis.bundled.password and redis.bundled.existingSecret are set: one of the two" -}}
{{- end -}}
{{- if not (or .Values.redis.bundled.image.tag .Values.redis.bundled.image.digest) -}}
{{- fail "redis.bundled.image needs a tag or a digest" -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuseVariables" -}}
{{- $known := list -}}
{{- range .Files.Lines "files/variables.txt" -}}{{- if . -}}{{- $known = append $known . -}}{{- end -}}{{- end -}}
{{- $modelled := include "carillon.modelled" . | fromYaml -}}
{{- $secret := list "HTTP_TOKEN" "TOKEN" "METRICS_TOKEN" "REDIS_URL" "JWT_SECRET" "AUTH_KEY" "WEBHOOK_SECRET" -}}
{{- $paths := splitList " " (include "carillon.pathVariables" .) -}}
{{- range $place := list "config" "secrets" -}}
{{- range $name, $value := get $.Values $place -}}
{{- if hasKey $modelled $name -}}
{{- fail (printf "%s.%s: this variable is set by the value %s" $place $name (get $modelled $name)) -}}
{{- end -}}
{{- if not (has $name $known) -}}
{{- fail (printf "%s.%s: the program has no variable of this name (one that is newer than this chart goes into extraEnv)" $place $name) -}}
{{- end -}}
{{- if and (eq $place "config") (has $name $secret) -}}
{{- fail (printf "config.%s: this is a secret, and whoever may see pods would see it: set secrets.%s.value, or existingSecret and key" $name $name) -}}
{{- end -}}
{{- if and (eq $place "config") (hasKey $.Values.secrets $name) -}}
{{- fail (printf "both config.%s and secrets.%s are set: one of the two" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $set := list -}}
{{- range include "carillon.env" . | fromYamlArray -}}
{{- $set = append $set (.name | trimSuffix "_FILE") -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has (.name | trimSuffix "_FILE") $set -}}
{{- fail (printf "extraEnv: %s is set by other values already" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuseTimes" -}}
{{- $needed := include "carillon.endSeconds" . | int -}}
{{- if lt (include "carillon.gracePeriod" . | int) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds=%d: nodes need %d s to end in order (drain.preStopSeconds + delaySeconds + periodSeconds + marginSeconds, and WEBHOOK_TIMEOUT with a webhook): less would cut clients off. Leave it out, or shorten drain" (int .Values.terminationGracePeriodSeconds) $needed) -}}
{{- end -}}
{{- $ready := include "carillon.minReadySeconds" . | int -}}
{{- if le (int .Values.rollout.progressDeadlineSeconds) $ready -}}
{{- fail (printf "rollout.progressDeadlineSeconds=%d: a new node counts after %d s (rollout.minReadySeconds, or what an old one's end takes), so every rollout would have failed by then" (int .Values.rollout.progressDeadlineSeconds) $ready) -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuseOpen" -}}
{{- $guarded := or (hasKey .Values.secrets "HTTP_TOKEN") (hasKey .Values.secrets "TOKEN") -}}
{{- range .Values.extraEnv -}}
{{- if has (.name | trimSuffix "_FILE") (list "HTTP_TOKEN" "TOKEN") -}}{{- $guarded = true -}}{{- end -}}
{{- end -}}
{{- if not $guarded -}}
{{- $open := list -}}
{{- if .Values.apiIngress.enabled -}}{{- $open = append $open "apiIngress.enabled=true" -}}{{- end -}}
{{- if .Values.apiHttpRoute.enabled -}}{{- $open = append $open "apiHttpRoute.enabled=true" -}}{{- end -}}
{{- if ne .Values.backends.type "ClusterIP" -}}{{- $open = append $open (printf "backends.type=%s" .Values.backends.type) -}}{{- end -}}
{{- range $open -}}
{{- fail (printf "%s would open the HTTP API to whoever reaches it, and with it every client: set secrets.HTTP_TOKEN" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuseScaling" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if $scaling.enabled -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas=%d is more than maxReplicas=%d" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if not (or $scaling.targetCPUPercent $scaling.targetConnections $scaling.metrics) -}}
{{- fail "autoscaling has nothing to go by: set autoscaling.targetCPUPercent, targetConnections or metrics" -}}
{{- end -}}
{{- if and $scaling.targetCPUPercent (not (dig "requests" "cpu" "" (.Values.resources | default dict))) -}}
{{- fail "autoscaling.targetCPUPercent is in percent of resources.requests.cpu, which isn't set" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What Kubernetes refuses of Services, with the values' names. */ -}}
{{- define "carillon.refuseServices" -}}
{{- range $name := list "service" "backends" -}}
{{- $service := get $.Values $name -}}
{{- if eq $service.type "ClusterIP" -}}
{{- range $value := list "nodePort" "externalTrafficPolicy" -}}
{{- if get $service $value -}}
{{- fail (printf "%s.%s is for the types NodePort and LoadBalancer, and %s.type is ClusterIP" $name $value $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ne $service.type "LoadBalancer" -}}
{{- range $value := list "loadBalancerClass" "loadBalancerSourceRanges" -}}
{{- if get $service $value -}}
{{- fail (printf "%s.%s is for the type LoadBalancer, and %s.type is %s" $name $value $name $service.type) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "carillon.refuseOthers" -}}
{{- $ports := list (int .Values.ports.websocket) (int .Values.ports.http) (int .Values.ports.metrics) -}}
{{- if lt (len (uniq $ports)) 3 -}}
{{- fail "ports.websocket, ports.http and ports.metrics have to be three ports" -}}
{{- end -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and $policy.enabled (not $policy.backends) (not $policy.extraIngress) (or .Values.apiIngress.enabled .Values.apiHttpRoute.enabled) -}}
{{- fail (printf "networkPolicy.enabled lets only pods with the label %s call the HTTP API, and nobody by apiIngress or apiHttpRoute: set networkPolicy.backends to the pods of the proxy, and to your backends" $policy.backendLabel) -}}
{{- end -}}
{{- if and .Values.tls.http (not .Values.tls.existingSecret) -}}
{{- fail "tls.http needs tls.existingSecret, the certificate" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor and metrics.podMonitor are both enabled: each node would be scraped twice" -}}
{{- end -}}
{{- range $name := list "serviceMonitor" "podMonitor" -}}
{{- $monitor := get $.Values.metrics $name -}}
{{- if and $monitor.enabled (gt (include "carillon.seconds" $monitor.scrapeTimeout | int) (include "carillon.seconds" $monitor.interval | int)) -}}
{{- fail (printf "metrics.%s.scrapeTimeout=%s is longer than interval=%s, which Prometheus doesn't take" $name $monitor.scrapeTimeout $monitor.interval) -}}
{{- end -}}
{{- $token := get $.Values.secrets "METRICS_TOKEN" | default dict -}}
{{- if and $monitor.enabled $monitor.namespace (ne $monitor.namespace $.Release.Namespace) (hasKey $token "value") -}}
{{- fail (printf "metrics.%s.namespace: the monitor needs METRICS_TOKEN from a Secret of its own namespace, and the chart's is in another: put one into both, and name it by secrets.METRICS_TOKEN.existingSecret" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.extraPodSpec -}}
{{- if has $name (list "containers" "volumes" "serviceAccountName" "automountServiceAccountToken" "enableServiceLinks" "terminationGracePeriodSeconds" "securityContext" "imagePullSecrets" "priorityClassName" "runtimeClassName" "dnsPolicy" "dnsConfig" "initContainers" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints") -}}
{{- fail (printf "extraPodSpec.%s: this part of the pod is the chart's, by other values" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "ingress" "apiIngress" -}}
{{- $ingress := get $.Values $name -}}
{{- if and $ingress.enabled (not $ingress.hosts) -}}
{{- fail (printf "%s.enabled needs %s.hosts" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "httpRoute" "apiHttpRoute" -}}
{{- $route := get $.Values $name -}}
{{- if and $route.enabled (not $route.parentRefs) -}}
{{- fail (printf "%s.enabled needs %s.parentRefs, the Gateways that it is for" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
