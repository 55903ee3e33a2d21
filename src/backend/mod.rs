//! Connections to shards: dial, log in, pool, cancel.
//!
//! Main types: [`Target`] (where a shard is and as whom), [`Connection`] (a session on a shard, which its
//! holder reads and writes directly), [`Pools`] and [`Lease`] (a connection for the time that a client
//! needs it), [`Idle`] (a connection proven to be clean, the only thing that a pool takes back),
//! [`BackendError`].
//!
//! Invariants: what is not provably idle is closed, never reused; a shard that is down fails fast and
//! does not touch the others; no password is ever printed.
//!
//! `sslmode` means what it means to libpq: a mode that promises encryption never ends in plaintext.
//!
//! Absent: Kerberos, replicas, health checks by themselves.

mod books;
mod breaker;
mod cancel;
mod clock;
mod connect;
mod connection;
mod control;
mod error;
mod pool;
mod prepared;
mod stream;
mod target;
mod tls;

pub use self::books::{Books, ConnectionBook, Doing, Gate, LATENCY_BOUNDS_US, ShardBook};
pub use self::cancel::{CancelKey, cancel};
pub use self::connect::connect;
pub use self::connection::{Connection, Notices, Row};
pub use self::control::{Control, ControlError, ControlStream, control};
pub use self::error::{BackendError, Side};
pub use self::pool::{Idle, Lease, Login, Pool, PoolSettings, PoolStatus, Pools, ShardPools};
pub use self::prepared::Prepared;
pub use self::target::{Accepted, ChannelBinding, Host, SslMode, Target, TlsOptions};
