//! Bytes ↔ frames ↔ messages of the frontend/backend protocol; SCRAM; error responses.
//!
//! [`frame`] cuts frames out of a byte stream and makes them; [`startup`] reads the packet that opens a connection;
//! [`frontend`] views and rewrites what clients send; [`backend`] writes what the proxy itself answers;
//! [`response`] reads what a shard answers, as far as it must be understood; [`walk`] only tells where an
//! answer ends; [`scram`] is both sides of SCRAM-SHA-256; [`certificate`] reads what a certificate says.
//!
//! Invariants: no input makes it panic or read past its frame; a view borrows the frame and copies
//! nothing; whatever is not understood stays bytes and can be forwarded unchanged. It knows no socket,
//! no clock, no SQL and no shard map. Messages that the proxy only relays have no type here.
//!
//! Protocol facts: PostgreSQL manual, "Frontend/Backend Protocol".

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod backend;
pub mod certificate;
pub mod frame;
pub mod frontend;
pub mod response;
pub mod scram;
pub mod sqlstates;
pub mod startup;
pub mod walk;

mod out;
mod reader;

use std::borrow::Cow;
use std::fmt;

pub use self::out::Out;
use crate::error::{SqlError, SqlState};

/// Whoever sent this doesn't speak the protocol, or not a version of it that is spoken here. The
/// connection ends with it (FATAL), for the position in the stream may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// SQLSTATE, 08P01 unless PostgreSQL uses another one in that place.
    pub code: SqlState,
    /// PostgreSQL's own text where it has one.
    pub message: Cow<'static, str>,
    /// What exactly was wrong.
    pub detail: Option<Cow<'static, str>>,
}

impl ProtocolError {
    /// A protocol violation (08P01).
    pub fn violation(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: SqlState::PROTOCOL_VIOLATION, message: message.into(), detail: None }
    }

    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    fn with_code(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), detail: None }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProtocolError {}

impl From<ProtocolError> for SqlError {
    fn from(error: ProtocolError) -> Self {
        let sql = SqlError::new(error.code, error.message);
        match error.detail {
            Some(detail) => sql.detail(detail),
            None => sql,
        }
    }
}
