//! What a statement says: its class, tables, scopes, key predicates and parameters. It never knows the
//! map.
//!
//! [`lexer`] reads every statement once: it lifts the literals out (what is left is the *shape*, the key
//! of the analysis cache), finds the hint, splits at `;`, counts, and classifies what needs no tree
//! ([`class`]). On a cache miss [`parse`], the one seam to the parser, builds a tree and [`analyze`]
//! lowers it to the [`ir`], which does not mention the parser's types. The IR never depends on the
//! value of a literal, only on its slot, so it serves all statements of its shape. The other way, from values
//! to SQL, is [`quote`].
//!
//! Invariants: no input makes it panic or overflow the stack; what it does not understand it calls
//! unknown (a predicate) or opaque (a statement), never something else.

pub mod analyze;
pub mod arguments;
pub mod class;
mod ddl;
pub mod functions;
pub mod hint;
pub mod ir;
pub(crate) mod keywords;
pub mod lexer;
pub mod literal;
mod parse;
pub mod point;
pub mod quote;
pub mod reshape;
pub mod temporary;
pub mod token;
pub(crate) mod tokens;
pub mod triggers;
