# Every target installs what it needs on Debian and Ubuntu (as root or with sudo); only Rust must be
# there. `make` alone lists the targets.

# Rust is usually on the PATH; rustup's own place is the second guess.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/cargo/bin
export CARGO ?= cargo
SHELL := /bin/bash

.PHONY: help build release demo serve-demo test conformance bench clean

help:
	@echo "make demo         three scratch PostgreSQL shards, and a guided tour through every strategy"
	@echo "make serve-demo   the same shards and data, served until Ctrl-C: play with psql"
	@echo "make test         format, lints, all tests"
	@echo "make conformance  the long tests and real drivers"
	@echo "make bench        criterion, and pgbench beside PostgreSQL and PgBouncer"
	@echo "make release      target/optimised/pgmeridian, compiled by a profile of its work"

build:
	@.ci/need cc
	$(CARGO) build --release --locked

release:
	@.ci/need cc postgresql clients
	.ci/release

demo: build
	@.ci/need postgresql
	target/release/pgmeridian demo --tour

serve-demo: build
	@.ci/need postgresql
	target/release/pgmeridian demo

test:
	@.ci/need cc postgresql valgrind
	.ci/suites

conformance: build
	@.ci/need postgresql clients drivers valgrind
	.ci/conformance

bench: release
	@.ci/need postgresql clients pooler valgrind
	PGMERIDIAN=target/optimised/pgmeridian $(CARGO) bench --locked --bench '*'

clean:
	$(CARGO) clean
