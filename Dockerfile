# The image of the mirror: the compiled program, its production dependencies, and Node. It runs as an
# unprivileged user, needs no capability, and writes below /var/lib/entrepot only, so that its root can be
# read-only.
#
#   docker build -t entrepot:0.1.0 .
#   docker run -d --read-only --cap-drop ALL -p 8080:8080 -v entrepot:/var/lib/entrepot entrepot:0.1.0

# Any image with Node 26 and npm. A tag can move: for builds that can be repeated, give a digest:
#
#   digest="$(docker buildx imagetools inspect node:26-slim --format '{{.Manifest.Digest}}')"
#   docker build --build-arg BASE="node:26-slim@$digest" -t entrepot .
ARG BASE=node:26-slim

FROM ${BASE} AS build
WORKDIR /entrepot
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY build ./build
COPY src ./src
COPY bin ./bin
COPY web ./web
# Keeps only what the program needs at run time. The second installation comes from npm's cache.
RUN npm run build \
 && rm -rf src build node_modules \
 && npm ci --omit=dev --ignore-scripts --prefer-offline --no-audit --no-fund \
 && rm -rf node_modules/.package-lock.json node_modules/.cache \
 && find node_modules \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -exec rm -f {} + \
 && mkdir /state

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Entrepot" \
      org.opencontainers.image.description="A pull-through caching mirror for OCI registries" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /entrepot /entrepot
COPY LICENSE /entrepot/
# docker exec <container> entrepot status
RUN mkdir -p /usr/local/bin && ln -s /entrepot/bin/entrepot.cjs /usr/local/bin/entrepot
# A new volume inherits this owner.
COPY --from=build --chown=65532:65532 /state /var/lib/entrepot
ENV NODE_ENV=production \
    FILESYSTEM_ROOT=/var/lib/entrepot \
    S3_SPOOL_DIR=/var/lib/entrepot/spool
USER 65532:65532
WORKDIR /var/lib/entrepot
VOLUME /var/lib/entrepot
EXPOSE 8080
# The first SIGTERM drains: allow it the time by --stop-timeout or stop_grace_period.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 \
  CMD ["entrepot", "healthcheck"]
ENTRYPOINT ["entrepot"]
