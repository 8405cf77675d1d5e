# syntax=docker/dockerfile:1
# One static tool chain to build with, and an image that holds the program, the shell that Debian has, and nothing else.

FROM rust:1.95-bookworm AS build
# cmake and perl build the TLS libraries that are linked in; their versions are Debian's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Dependencies are compiled once per lock file: registry and target folder are kept between builds.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin gatewatch \
    && cp target/release/gatewatch /usr/local/bin/gatewatch \
    && strip /usr/local/bin/gatewatch

FROM debian:bookworm-slim
# For brokers and stores whose certificates a public authority signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/gatewatch /usr/local/bin/gatewatch
USER 10001:10001
WORKDIR /etc/gatewatch
EXPOSE 8470
ENTRYPOINT ["/usr/local/bin/gatewatch"]
CMD ["--help"]
