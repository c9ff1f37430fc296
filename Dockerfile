# outboxd in a small image, as a user without rights.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends pkg-config libssl-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p outboxd \
    && objcopy --strip-debug target/release/outboxd /outboxd

# The same Debian release as above: the binary is linked to its libraries.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /outboxd /usr/local/bin/outboxd
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["outboxd"]
CMD ["run"]
