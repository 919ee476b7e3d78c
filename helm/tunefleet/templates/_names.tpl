{{/* The name that everything of this release begins with. */}}
{{- define "tunefleet.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 30 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* The labels by which the controller's pods are found; they never change. */}}
{{- define "tunefleet.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{/* The labels of every object. */}}
{{- define "tunefleet.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The namespaces with jobs, as JSON: the one that is looked after alone, else those that are named. */}}
{{- define "tunefleet.jobNamespaces" -}}
{{- if .Values.onlyNamespace -}}
{{- list .Values.onlyNamespace | toJson -}}
{{- else -}}
{{- .Values.jobNamespaces | toJson -}}
{{- end -}}
{{- end -}}

{{/* Holds the binding of a rule for jobs to the namespace that is looked after alone; else nothing. */}}
{{- define "tunefleet.within" -}}
{{- with .Values.onlyNamespace -}}
matchResources:
  namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ quote . }}}
{{- end -}}
{{- end -}}

{{/*
What the controller does to objects outside its own namespace: every verb that its code uses, and
none besides. A test compares the list with what the API server was asked.
*/}}
{{- define "tunefleet.rules" -}}
- apiGroups: [tunefleet.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch]
- apiGroups: [tunefleet.dev]
  resources: [finetunejobs/status]
  verbs: [patch]
# Their status is written by their own pods alone.
- apiGroups: [tunefleet.dev]
  resources: [finetuneattempts]
  verbs: [create, get, list, patch, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, watch]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [create, delete, get, list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Why a job waits in a queue, and in which place, where Kueue is installed.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list, watch]
- apiGroups: [visibility.kueue.x-k8s.io]
  resources: [localqueues/pendingworkloads]
  verbs: [get]
{{- if .Values.rbac.ownerReferencesPermissionEnforcement }}
- apiGroups: [tunefleet.dev]
  resources: [finetunejobs/finalizers, finetuneattempts/finalizers]
  verbs: [update]
{{- end }}
{{- end -}}
