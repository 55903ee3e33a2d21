# syntax=docker/dockerfile:1
# docker build -t pgmeridian .
# docker run -p 6432:6432 -v ./etc:/etc/pgmeridian:ro pgmeridian
# ./etc holds map.toml, and pgmeridian.toml with the users: outside of loopback there are no others.

FROM rust:1-slim-bookworm AS build
WORKDIR /src
# The dependencies alone first: they are compiled again only when Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
# Cargo.toml names the benches, so their files must be there.
COPY benches benches
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bins \
    && rm -r src
COPY src src
COPY shard-maps shard-maps
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bins \
    && strip target/release/pgmeridian

# glibc and libgcc, certificates, a user "nonroot" (65532), and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="pgmeridian" \
      org.opencontainers.image.description="A sharding-aware SQL proxy for PostgreSQL" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /src/target/release/pgmeridian /usr/local/bin/pgmeridian
USER nonroot
WORKDIR /etc/pgmeridian
# 6432: PostgreSQL protocol. 9632: health, readiness, metrics.
EXPOSE 6432 9632
# SIGTERM drains: no new clients, what runs may finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/pgmeridian", "serve"]
CMD ["--map", "/etc/pgmeridian/map.toml", "--config", "/etc/pgmeridian/pgmeridian.toml", \
     "--listen", "0.0.0.0:6432", "--http", "0.0.0.0:9632"]
