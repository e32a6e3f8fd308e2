# A static binary in an empty image: nothing in it but Carillon and the certificate authorities.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache ca-certificates gcc musl-dev
WORKDIR /src
COPY . .
# Shown by `carillon --version`.
ARG COMMIT=""
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    CARILLON_COMMIT="$COMMIT" cargo build --release --locked --bin carillon \
    && cp target/release/carillon /carillon

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
