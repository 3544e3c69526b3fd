# Two images, for amd64 and arm64:
#
#   docker buildx build --target hubgate --build-arg VERSION=v0.1.0 -t ghcr.io/hubgate/hubgate:v0.1.0 .
#   docker buildx build --target envoy   --build-arg VERSION=v0.1.0 -t ghcr.io/hubgate/envoy:v0.1.0 .
#
# Bases are pinned by exact version; docs/release.md says how to pin them by
# digest. All that is built is built by scripts/image, which the tests run as
# well.
ARG GO_IMAGE=golang:1.26.8-bookworm
ARG ENVOY_IMAGE=envoyproxy/envoy:v1.40.0

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS source
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETARCH VERSION REVISION

FROM source AS hubgate-build
RUN ./scripts/image hubgate /out

FROM source AS envoy-build
# C compilers of both architectures: the library is built where the build runs,
# for whichever is asked.
RUN apt-get update && apt-get install -y --no-install-recommends \
      gcc-x86-64-linux-gnu libc6-dev-amd64-cross gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
    && rm -rf /var/lib/apt/lists/*
RUN ./scripts/image envoy /out

FROM ${ENVOY_IMAGE} AS envoy
COPY --from=envoy-build /out/ /
ENV ENVOY_DYNAMIC_MODULES_SEARCH_PATH=/opt/hubgate
USER 65532:65532
ENTRYPOINT ["envoy"]
CMD ["-c", "/etc/envoy/envoy.yaml"]

FROM scratch AS hubgate
COPY --from=hubgate-build /out/ /
COPY --from=hubgate-build --chown=65532:65532 /out/var/lib/hubgate/ /var/lib/hubgate/
USER 65532:65532
WORKDIR /var/lib/hubgate
EXPOSE 9191 9192 9193 9194 9195
ENTRYPOINT ["/usr/local/bin/hubgate"]
CMD ["serve", "--config", "/etc/hubgate/hubgate.yaml"]
