//! TLS and authentication, towards clients and towards shards, with libpq and PostgreSQL on the other
//! side.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod clients;
mod pki;
mod shards;
mod users;

#[path = "../support/mod.rs"]
mod support;
