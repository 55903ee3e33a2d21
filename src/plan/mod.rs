//! Analysis + parameters + map → a plan, or a refusal by name.
//!
//! [`Template`] is compiled once for a statement's shape and a map; [`Template::plan`] is the hot path:
//! with the parameters of one execution it yields a [`Plan`]. Each routing rule has a file of its own.
//! Everything that is refused is a variant of `refusal::Refusal`, which is also its documentation.
//!
//! It never awaits, never logs, never sees a socket.

use std::borrow::Cow;

use crate::datum::{KeyValue, Param};
use crate::map::{KeyId, ShardId, ShardSet};
use crate::sql::lexer::Literal;

/// Where a statement goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To one shard, and only there is the answer right.
    One(ShardId),
    /// To these shards (two or more).
    Many(ShardSet),
    /// To every shard of the map.
    All,
    /// Any shard gives the right answer (reference tables, no table at all); the home shard is preferred,
    /// a transaction's own shard is as good.
    Any,
    /// No row can match; any shard gives the right (empty) answer.
    Nowhere,
}

/// How the answer comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One shard's bytes, relayed.
    Relay,
    /// Rows of several shards, concatenated as they come.
    Stream,
}

/// What to do with one execution of a statement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub route: Route,
    /// How.
    pub answer: Answer,
    /// The statement's text for the shard when it differs from the client's (a session key's predicate was
    /// added, say); spliced, never unparsed.
    pub rewritten: Option<String>,
    /// After it, the connection may carry state that only its client may see (user-defined code, DO,
    /// temporary tables, session advisory locks, `set_config` …).
    pub taints: bool,
    /// It may change data or schema: never run twice.
    pub writes: bool,
    /// It may have changed the schema: the catalog is read again.
    pub changes_schema: bool,
}

/// The values of one execution.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The statement's text, which the literals' spans count in.
    pub text: &'a str,
    /// Its literals.
    pub literals: &'a [Literal],
    /// Bound parameters, empty in the simple protocol. When a statement with `$n` is planned before Bind
    /// (Describe), the parameters are missing: see [`Template::describe_shard`].
    pub params: &'a [Param<'a>],
    /// The client's encoding is UTF8. If not, text keys that aren't ASCII are refused.
    pub utf8: bool,
    /// `standard_conforming_strings`.
    pub standard_strings: bool,
}

/// What chooses or restricts the shard besides the statement. Sources that are present must agree.
#[derive(Clone, Debug, Default)]
pub struct Scope<'a> {
    /// `/* pgmeridian: shard=… */`.
    pub hint_shard: Option<ShardId>,
    /// `/* pgmeridian: key=… */`.
    pub hint_key: Option<(KeyId, Cow<'a, KeyValue<'static>>)>,
    /// `SET pgmeridian.shard`.
    pub session_shard: Option<ShardId>,
    /// `SET pgmeridian.key`.
    pub session_key: Option<(KeyId, Cow<'a, KeyValue<'static>>)>,
}
