{{- define "tuneloop.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that the longest suffix still makes a DNS label. */}}
{{- define "tuneloop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "tuneloop.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tuneloop.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tuneloop.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tuneloop.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tuneloop.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "tuneloop.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tuneloop.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tuneloop.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The deployments of the chosen topology: component name to its values, as JSON. */}}
{{- define "tuneloop.components" -}}
{{- if eq .Values.topology "app" -}}
{{- dict "app" .Values.app | toJson -}}
{{- else -}}
{{- .Values.services | toJson -}}
{{- end -}}
{{- end -}}

{{/* Name of a component's deployment: the door has the release's own name in both topologies. */}}
{{- define "tuneloop.componentName" -}}
{{- $fullname := include "tuneloop.fullname" .root -}}
{{- if has .component (list "app" "gateway") -}}
{{- $fullname -}}
{{- else -}}
{{- printf "%s-%s" $fullname .component -}}
{{- end -}}
{{- end -}}

{{- define "tuneloop.doorComponent" -}}
{{- ternary "app" "gateway" (eq .Values.topology "app") -}}
{{- end -}}

{{- define "tuneloop.command" -}}
{{- if eq .component "app" -}}
["tuneloop", "up", "--no-migrate", "--data", "/var/lib/tuneloop"]
{{- else if eq .component "serve" -}}
["node", "services/responses/src/serve/main.ts"]
{{- else -}}
["node", "services/{{ .component }}/src/main.ts"]
{{- end -}}
{{- end -}}

{{- define "tuneloop.models" -}}
{{- $pairs := list -}}
{{- range .Values.models -}}
{{- $pairs = append $pairs (printf "%s=%s" .name .folder) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{- define "tuneloop.serviceUrls" -}}
{{- $root := . -}}
{{- $urls := dict -}}
{{- range $name, $_ := .Values.services -}}
{{- if ne $name "serve" -}}
{{- $port := ternary (int $root.Values.service.port) 8080 (eq $name "gateway") -}}
{{- $_ := set $urls $name (printf "http://%s:%v" (include "tuneloop.componentName" (dict "root" $root "component" $name)) $port) -}}
{{- end -}}
{{- end -}}
{{- toJson $urls -}}
{{- end -}}

{{- define "tuneloop.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key | quote }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}

{{- define "tuneloop.valueEnv" -}}
- name: {{ .name }}
  value: {{ .value | quote }}
{{- end -}}

{{/* Where blobs are and how to get at them. */}}
{{- define "tuneloop.blobEnv" -}}
{{- $blobs := .Values.blobs -}}
{{ include "tuneloop.valueEnv" (dict "name" "BLOB_STORE" "value" $blobs.store) }}
{{- if eq $blobs.store "local" }}
{{ include "tuneloop.valueEnv" (dict "name" "BLOB_DIR" "value" "/var/lib/tuneloop/blobs") }}
{{- else if eq $blobs.store "s3" }}
{{ include "tuneloop.valueEnv" (dict "name" "S3_BUCKET" "value" $blobs.s3.bucket) }}
{{ include "tuneloop.valueEnv" (dict "name" "S3_REGION" "value" $blobs.s3.region) }}
{{ include "tuneloop.valueEnv" (dict "name" "S3_FORCE_PATH_STYLE" "value" (toString $blobs.s3.forcePathStyle)) }}
{{- if $blobs.s3.endpoint }}
{{ include "tuneloop.valueEnv" (dict "name" "S3_ENDPOINT" "value" $blobs.s3.endpoint) }}
{{- end }}
{{- if $blobs.s3.prefix }}
{{ include "tuneloop.valueEnv" (dict "name" "S3_PREFIX" "value" $blobs.s3.prefix) }}
{{- end }}
{{- if $blobs.s3.existingSecret }}
{{ include "tuneloop.secretEnv" (dict "name" "S3_ACCESS_KEY_ID" "secret" $blobs.s3.existingSecret "key" $blobs.s3.accessKeyIdKey) }}
{{ include "tuneloop.secretEnv" (dict "name" "S3_SECRET_ACCESS_KEY" "secret" $blobs.s3.existingSecret "key" $blobs.s3.secretAccessKeyKey) }}
{{- end }}
{{- else }}
{{ include "tuneloop.valueEnv" (dict "name" "SUPABASE_BUCKET" "value" $blobs.supabase.bucket) }}
{{ include "tuneloop.secretEnv" (dict "name" "SUPABASE_SERVICE_ROLE_KEY" "secret" $blobs.supabase.existingSecret "key" $blobs.supabase.serviceRoleKeyKey) }}
{{- end }}
{{- $supabaseUrl := ternary $blobs.supabase.url .Values.supabaseSignIn.url (eq $blobs.store "supabase") }}
{{- if $supabaseUrl }}
{{ include "tuneloop.valueEnv" (dict "name" "SUPABASE_URL" "value" $supabaseUrl) }}
{{- end }}
{{- end -}}

{{/* The environment of one component. The model server knows neither Postgres nor NATS. */}}
{{- define "tuneloop.env" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $component := .component -}}
{{- $whole := eq $component "app" -}}
{{ include "tuneloop.secretEnv" (dict "name" "TUNELOOP_SECRET" "secret" $values.secret.existingSecret "key" $values.secret.key) }}
{{ include "tuneloop.valueEnv" (dict "name" "HOST" "value" "0.0.0.0") }}
{{ include "tuneloop.valueEnv" (dict "name" "PORT" "value" "8080") }}
{{ include "tuneloop.valueEnv" (dict "name" "LOG_LEVEL" "value" $values.logLevel) }}
{{ include "tuneloop.blobEnv" $root }}
{{- if ne $component "serve" }}
{{ include "tuneloop.secretEnv" (dict "name" "DATABASE_URL" "secret" $values.database.existingSecret "key" $values.database.urlKey) }}
{{ include "tuneloop.valueEnv" (dict "name" "NATS_URL" "value" $values.nats.url) }}
{{- if $values.nats.existingSecret }}
{{ include "tuneloop.secretEnv" (dict "name" "NATS_CREDS" "secret" $values.nats.existingSecret "key" $values.nats.credsKey) }}
{{- end }}
{{- if and $values.supabaseSignIn.url $values.supabaseSignIn.existingSecret }}
{{ include "tuneloop.secretEnv" (dict "name" "SUPABASE_JWT_SECRET" "secret" $values.supabaseSignIn.existingSecret "key" $values.supabaseSignIn.jwtSecretKey) }}
{{- end }}
{{- if not $whole }}
{{ include "tuneloop.valueEnv" (dict "name" "SERVICE_URLS" "value" (include "tuneloop.serviceUrls" $root)) }}
{{- end }}
{{- end }}
{{- if or $whole (eq $component "gateway") }}
{{- if $values.nats.existingSecret }}
{{ include "tuneloop.secretEnv" (dict "name" "NATS_ACCOUNT_SEED" "secret" $values.nats.existingSecret "key" $values.nats.accountSeedKey "optional" true) }}
{{- end }}
{{- if $values.nats.publicUrl }}
{{ include "tuneloop.valueEnv" (dict "name" "NATS_PUBLIC_URL" "value" $values.nats.publicUrl) }}
{{- end }}
{{ include "tuneloop.valueEnv" (dict "name" "RATE_LIMIT_PER_MINUTE" "value" (int $values.rateLimitPerMinute | toString)) }}
{{- if $values.corsOrigins }}
{{ include "tuneloop.valueEnv" (dict "name" "CORS_ORIGINS" "value" $values.corsOrigins) }}
{{- end }}
{{- end }}
{{- if or $whole (eq $component "responses") }}
{{- if $values.upstream.baseUrl }}
{{ include "tuneloop.valueEnv" (dict "name" "UPSTREAM_BASE_URL" "value" $values.upstream.baseUrl) }}
{{- end }}
{{- if $values.upstream.existingSecret }}
{{ include "tuneloop.secretEnv" (dict "name" "UPSTREAM_API_KEY" "secret" $values.upstream.existingSecret "key" $values.upstream.apiKeyKey) }}
{{- end }}
{{- end }}
{{- if eq $component "responses" }}
{{ include "tuneloop.valueEnv" (dict "name" "SERVE_URL" "value" (printf "http://%s:8080" (include "tuneloop.componentName" (dict "root" $root "component" "serve")))) }}
{{- end }}
{{- if eq $component "serve" }}
{{ include "tuneloop.valueEnv" (dict "name" "SERVE_MODELS" "value" (include "tuneloop.models" $root)) }}
{{- end }}
{{- if or $whole (eq $component "trainer") }}
{{ include "tuneloop.valueEnv" (dict "name" "BASE_MODELS" "value" (include "tuneloop.models" $root)) }}
{{ include "tuneloop.valueEnv" (dict "name" "TRAINER_WORK_DIR" "value" "/var/lib/tuneloop/work") }}
{{- end }}
{{- end -}}

{{/* Two lists of environment variables as one: of those with the same name the later is kept, since a name may stand once. */}}
{{- define "tuneloop.mergedEnv" -}}
{{- $given := dict -}}
{{- range .extra }}{{- $_ := set $given .name true -}}{{- end -}}
{{- $result := list -}}
{{- range .own -}}
{{- if not (hasKey $given .name) }}{{- $result = append $result . -}}{{- end -}}
{{- end -}}
{{- toYaml (concat $result .extra) -}}
{{- end -}}

{{- define "tuneloop.migrateEnv" -}}
{{ include "tuneloop.secretEnv" (dict "name" "DATABASE_URL" "secret" .Values.database.existingSecret "key" .Values.database.adminUrlKey) }}
{{ include "tuneloop.secretEnv" (dict "name" "TUNELOOP_SECRET" "secret" .Values.secret.existingSecret "key" .Values.secret.key) }}
{{- end -}}
