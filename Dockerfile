# A static binary in an empty image: nothing in it but Carillon and the certificate authorities.
#
#   docker build -t carillon --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" .
#   docker buildx build --platform linux/amd64,linux/arm64 …     for both, each on a builder of its own kind or emulated
#
# BuildKit is needed, as current versions of Docker have it. scripts/image-test checks what comes out.

# Another image may take its place that has a Rust toolchain with this target, its C compiler, and `apk`.
ARG RUST=rust:1.95-alpine
FROM ${RUST} AS build
RUN apk add --no-cache ca-certificates gcc musl-dev
WORKDIR /src
COPY . .
# The commit that it is built from: the repository is not in here to be asked.
ARG COMMIT=""
ARG TARGETARCH
# Dependencies are kept between builds, for each architecture; Carillon itself is always compiled anew. Cargo judges by the
# times of files, which say nothing where two checkouts share a cache.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=carillon-target-${TARGETARCH},target=/src/target \
    TARGET="$(uname -m)-unknown-linux-musl" \
    && touch build.rs src/lib.rs src/main.rs \
    && CARILLON_COMMIT="$COMMIT" cargo build --release --locked --bin carillon --target "$TARGET" \
    && cp "target/$TARGET/release/carillon" /carillon

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /carillon /carillon
# Port 80 needs no privilege here: Docker sets net.ipv4.ip_unprivileged_port_start to 0 in a container's own network.
# Where that is not so (the host's network, some Kubernetes), set WS_PORT to a port above 1023.
USER 65532:65532
ENV WS_HOST=0.0.0.0 WS_PORT=80 HTTP_HOST=0.0.0.0 HTTP_PORT=8080
EXPOSE 80 8080
# Whether it is alive, not whether it is ready: an orchestrator that replaces unhealthy containers would otherwise close
# every socket because Redis is away.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/carillon", "health", "--live", "--timeout", "2"]
ENTRYPOINT ["/carillon"]
CMD ["serve"]
# Behind all else: a new commit changes no layer.
ARG COMMIT=""
LABEL org.opencontainers.image.title="Carillon" \
      org.opencontainers.image.description="A WebSocket push server: one push, and every bell that should ring rings" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
