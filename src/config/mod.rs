//! `pgmeridian.toml`: the proxy's own settings (addresses, users, pools, limits), as opposed to the shard
//! map. Everything in it is optional.
//!
//! Main types: [`Config`] (only ever a valid one), [`Secret`], [`Faults`]. [`Config::parse`] goes from
//! text to values with all faults at once, each with its place and a hint; `${NAME}` in a string is taken
//! from the environment, which comes in as a function.
//!
//! Invariants: a secret never shows in a fault, a log line or a `Debug`; an unknown key is a fault, not
//! a silent nothing. It opens one file and knows no socket.

mod fault;
mod model;
mod read;
mod secret;
mod section;
mod units;

pub use self::fault::{Fault, Faults};
pub use self::model::{
    Auth, AuthMethod, Breaker, Config, Health, Http, Limits, Listen, Log, LogFormat, Password,
    Pool, PoolMode, Tls, User, users_of,
};
pub use self::secret::Secret;
