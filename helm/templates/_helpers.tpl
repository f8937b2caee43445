{{- define "marketprism.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "marketprism.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "marketprism.labels" -}}
{{ include "marketprism.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "marketprism.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "marketprism.name" .) }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* image LIST: an image of the values and the version that it has by default */}}
{{- define "marketprism.image" -}}
{{- $image := index . 0 }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default (index . 1) }}{{ end }}
{{- end }}

{{- /* "true" where the platform gives UIDs. */}}
{{- define "marketprism.platformUids" -}}
{{- $given := toString .Values.platformUids }}
{{- if eq $given "auto" }}{{ .Capabilities.APIVersions.Has "security.openshift.io/v1" }}{{ else }}{{ $given }}{{ end }}
{{- end }}

{{- define "marketprism.podSecurityContext" -}}
{{- $given := .Values.podSecurityContext }}
{{- if eq (include "marketprism.platformUids" .) "true" }}{{ $given = omit $given "runAsUser" "runAsGroup" "fsGroup" }}{{ end }}
{{- toYaml $given }}
{{- end }}

{{- /* What the operator needs where pipelines are. It can run nothing in a Pod and give nobody a right. */}}
{{- define "marketprism.rules" -}}
- apiGroups: [storage.marketprism.io]
  resources: [storagepipelines, tieringpolicies]
  verbs: [get, list, watch]
- apiGroups: [storage.marketprism.io]
  resources: [storagepipelines/status, tieringpolicies/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [serviceaccounts, services, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
{{- if or .Values.namespaces .Values.rbac.watchSecrets }}
# For their versions only: a Secret that changes rolls the Pods that use it.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [list, create, patch]
{{- end }}
