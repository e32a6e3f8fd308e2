{{- /* Names, labels and images. */ -}}

{{- define "carillon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /*
At most 53 characters, so that the longest ending that is put behind it ("-dashboard") fits into a name of 63. A release's name may
have dots in it, which a Service's may not.
*/ -}}
{{- define "carillon.fullname" -}}
{{- $name := include "carillon.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What objects and pods of one part are found by. Takes a list: the root and the component. */ -}}
{{- define "carillon.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "carillon.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /*
A pod's labels. Takes a list: the root, the component and further ones. No versions, as a pod is replaced when its labels change.
*/ -}}
{{- define "carillon.podLabels" -}}
{{- $root := index . 0 -}}
{{- $selector := include "carillon.selectorLabels" (list $root (index . 1)) | fromYaml -}}
{{- toYaml (merge $selector (index . 2) $root.Values.commonLabels) -}}
{{- end -}}

{{- /* An object's labels. Takes a list: the root, the component and, where there may be such, further ones. */ -}}
{{- define "carillon.labels" -}}
{{- $root := index . 0 -}}
{{- $further := dict -}}
{{- if gt (len .) 2 -}}{{- $further = index . 2 -}}{{- end -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- $own := dict "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/part-of" "carillon" "app.kubernetes.io/managed-by" $root.Release.Service "helm.sh/chart" $chart -}}
{{- $selector := include "carillon.selectorLabels" (list $root (index . 1)) | fromYaml -}}
{{- toYaml (merge $selector $own $further $root.Values.commonLabels) -}}
{{- end -}}

{{- /* A reference to an image. Takes a list: the values of the image and the tag where they have none. */ -}}
{{- define "carillon.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (index . 1) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "carillon.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "carillon.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "carillon.kubeVersion" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersion -}}
{{- end -}}

{{- /* "true" where a pod can be told to sleep before SIGTERM, or after its start: from Kubernetes 1.30 on. */ -}}
{{- define "carillon.canSleep" -}}
{{- if semverCompare ">=1.30-0" (include "carillon.kubeVersion" .) -}}true{{- end -}}
{{- end -}}

{{- /* A plain value as the text of a variable. Helm reads numbers as floating point: 1000000 would become 1e+06. */ -}}
{{- define "carillon.text" -}}
{{- if or (kindIs "float64" .) (kindIs "int64" .) (kindIs "int" .) -}}
{{- printf "%d" (int64 .) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- /* "true" where there is a Redis: a bundled one, or the URL of another. */ -}}
{{- define "carillon.hasRedis" -}}
{{- $found := or .Values.redis.bundled.enabled (hasKey .Values.secrets "REDIS_URL") -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "REDIS_URL" "REDIS_URL_FILE") -}}{{- $found = true -}}{{- end -}}
{{- end -}}
{{- if $found -}}true{{- end -}}
{{- end -}}

{{- /* "true" where there can be more than one node. */ -}}
{{- define "carillon.canBeMany" -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.maxReplicas) 1 -}}true{{- end -}}
{{- else if kindIs "invalid" .Values.replicas -}}
true
{{- else if gt (int .Values.replicas) 1 -}}
true
{{- end -}}
{{- end -}}

{{- /* The port of the clients' Service. */ -}}
{{- define "carillon.clientsPort" -}}
{{- .Values.service.port | default (ternary 443 80 (not (empty .Values.tls.existingSecret))) -}}
{{- end -}}
