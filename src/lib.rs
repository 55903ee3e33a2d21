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
//! | [`http`] | health, readiness, metrics, reload over HTTP | yes |
//! | [`console`] | the operator's SQL, over the wire | yes |
//! | [`command`] | what an operator can do | yes |
//! | [`exec`] | runs a plan on backend connections | yes |
//! | [`mapstore`] | where the shard map and the catalog come from, and which are current | yes |
//! | [`backend`] | connections to shards: dial, log in, pool, cancel | yes |
//! | [`observe`] | logs and counters: all names in one place | yes |
//! | [`config`] | `pgmeridian.toml` | yes |
//! | [`session`] | the client's protocol state: transaction, settings, prepared statements | no |
//! | [`plan`] | analysis + parameters + map → a plan, or a refusal by name | no |
//! | [`merge`] | many row streams → one | no |
//! | [`commit`] | how what was written on several shards is committed on all or none | no |
//! | [`lookup`] | ids that lead to keys: what is known of them | no |
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
//!
//! Where to begin: `frontend::client::serve` is a client's loop, `exec` has the way of a statement in its header,
//! `plan` the list of its rules. A route that is wrong is a case in `tests/plans`, an answer that is wrong one in
//! `tests/differential`, a conversation one in `tests/protocol`: all three are files of text.
//!
//! # The pure rooms by example
//!
//! Everything up to a plan works without a server:
//!
//! ```
//! use pgmeridian::catalog::Catalog;
//! use pgmeridian::map::ShardMap;
//! use pgmeridian::plan::{Inputs, Route, Scope, Template};
//! use pgmeridian::sql::analyze::{self, Names};
//! use pgmeridian::sql::class;
//! use pgmeridian::sql::lexer::{self, Limits, Scan};
//!
//! let (map, _warnings) = ShardMap::parse(
//!     "example",
//!     r#"
//!     version = 1
//!     database = "app"
//!     default_shard = "east"
//!     shards = [
//!         { id = 1, name = "east", url = "postgresql://app@10.0.0.1/app" },
//!         { id = 2, name = "west", url = "postgresql://app@10.0.0.2/app" },
//!     ]
//!     [keys.tenant]
//!     columns = ["tenant_id"]
//!     type = "bigint"
//!     strategy = "hash"
//!     hash = { algorithm = "modulo", shards = ["east", "west"] }
//!     "#,
//!     &|_variable| None,
//! )
//! .map_err(|faults| faults.render(false))?;
//! let catalog = Catalog::from_ddl("CREATE TABLE bills (tenant_id bigint NOT NULL, cents bigint)")
//!     .map_err(|error| error.to_string())?;
//!
//! let text = "SELECT sum(cents) FROM bills WHERE tenant_id = 7";
//! let mut scan = Scan::default();
//! lexer::scan(text.as_bytes(), true, &Limits::default(), &mut scan).map_err(|e| e.to_string())?;
//! let literals = scan.literals_of(&scan.statements[0]);
//! let class = class::classify(text, true);
//! let names = Names { search_path: &["public".to_owned()], user: "app" };
//! let statement = analyze::analyze(text, literals, &catalog, &names);
//! let template = Template::compile(&statement, &class, &map);
//! let inputs = Inputs { text, literals, params: &[], utf8: true, standard_strings: true };
//! let plan = template.plan(&map, &inputs, &Scope::default()).map_err(|e| e.to_string())?;
//! assert_eq!(plan.route, Route::One(map.shard_named("west").ok_or("no such shard")?));
//! # Ok::<(), String>(())
//! ```

pub mod app;
pub mod backend;
pub mod catalog;
pub mod cli;
pub mod command;
pub mod commit;
pub mod config;
pub mod console;
pub mod datum;
pub mod demo;
pub mod error;
pub mod exec;
pub mod frontend;
pub mod http;
pub mod lookup;
pub mod map;
pub mod mapstore;
pub mod merge;
pub mod observe;
pub mod plan;
pub mod session;
pub mod sql;
pub mod wire;
