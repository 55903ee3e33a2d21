//! pgmeridian: a sharding-aware SQL proxy for PostgreSQL.
//!
//! Applications connect to it as to one plain PostgreSQL. It reads each statement, finds the
//! sharding key in it, and sends it to the PostgreSQL that holds the rows; reads that span shards
//! are scattered and gathered. What it cannot answer exactly it refuses by name.
//!
//! # The map of this code
//!
//! Every module is a room with one job; its header says which, what its main types are, and what it
//! must not know. Imports go down this list, never up (`tests/layers.rs` reads the `use` lines):
//!
//! | room | its one job | IO |
//! |---|---|---|
//! | [`cli`] | the words of the command line | yes |
//! | [`demo`] | scratch clusters, sample data, the tour | yes |
//! | [`app`] | the wiring: threads, listeners, signals | yes |
//! | [`frontend`] | listener, start-up, authentication, the one loop per client | yes |
//! | [`http`] | health, readiness, metrics | yes |
//! | [`exec`] | runs a plan on backend connections | yes |
//! | [`mapstore`] | where the shard map and the catalog come from, and which are current | yes |
//! | [`backend`] | connections to shards: dial, log in, pool, cancel | yes |
//! | [`observe`] | logs and counters: all names in one place | yes |
//! | [`config`] | `pgmeridian.toml` | yes |
//! | [`session`] | the client's protocol state: transaction, settings, prepared statements | no |
//! | [`plan`] | analysis + parameters + map → a plan, or a refusal by name | no |
//! | [`merge`] | many row streams → one | no |
//! | [`sql`] | what a statement says; never knows the map | no |
//! | [`map`] | which shard owns a key | no |
//! | [`catalog`] | what the schema says | no |
//! | [`wire`] | bytes ↔ frames ↔ messages; SCRAM; error responses | no |
//! | [`datum`] | values of PostgreSQL types outside PostgreSQL | no |
//! | [`error`] | PostgreSQL-grade errors | no |
//!
//! A statement's way: `frontend` cuts frames → `session` says what they mean → `sql::analyze` (cached
//! by shape) → `plan` → `exec` on `backend` connections → frames back to the client. Control never
//! sits in the data path.

pub mod app;
pub mod backend;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod datum;
pub mod demo;
pub mod error;
pub mod exec;
pub mod frontend;
pub mod http;
pub mod map;
pub mod mapstore;
pub mod merge;
pub mod observe;
pub mod plan;
pub mod session;
pub mod sql;
pub mod wire;
