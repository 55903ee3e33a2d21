//! Statements whose answer is foregone, given without asking a shard: `SELECT 1`, by which drivers and
//! pools see whether a connection lives, and the settings that they make on each new one
//! (`SET TIME ZONE 'UTC'`, `SET client_encoding TO 'UTF8'`).
//!
//! Invariants: an answer is given only while the shard that would be asked is known to be up, between
//! transactions, and to a session that has nothing on a connection of its own, whose state such a
//! statement may be meant to see; it is PostgreSQL's, byte for byte. A setting is given to a connection
//! when the next statement needs one. `pool.local_answers = false` switches all of it off.

use super::Executor;
use super::extended::{Op, Portal, Unit};
use super::planner::Planned;
use crate::backend::Pool;
use crate::config::PoolMode;
use crate::datum::{Format, oid};
use crate::map::ShardId;
use crate::observe::{self, RouteKind};
use crate::plan::Plan;
use crate::session::transaction::Transaction;
use crate::sql::class::{Class, SetCommand, SetValue};
use crate::sql::lexer::{Literal, LiteralKind};
use crate::wire::backend::{self, FieldDescription};
use crate::wire::frontend::BindView;

/// What PostgreSQL calls a column without a name.
const NAMELESS: &str = "?column?";

/// From this version on a server reports a changed setting behind the command's tag, before
/// `ReadyForQuery` (`ReportChangedGUCOptions`); older ones do so before the tag.
const REPORTS_BEHIND: u32 = 14;

/// A portal of such a query: one row with one integer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constant {
    value: i32,
    format: Format,
    /// The row has been fetched.
    fetched: bool,
}

/// `SELECT` and one integer, by its shape.
pub(super) fn is_constant(shape: &[u8]) -> bool {
    let mark = LiteralKind::Integer.mark();
    matches!(shape, [word @ .., b' ', last] if *last == mark && word.eq_ignore_ascii_case(b"select"))
}

/// The integer, if it is of type integer (`make_const`).
fn value(text: &[u8], literals: &[Literal]) -> Option<i32> {
    let [literal] = literals else { return None };
    let digits = text.get(literal.span.start as usize..literal.span.end as usize)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A setting that every server accepts, as it reports it.
fn known_setting(set: &SetCommand) -> Option<(&'static str, &'static str)> {
    let SetValue::One(value) = &set.value else { return None };
    match set.name.as_str() {
        _ if set.local => None,
        "timezone" if value.eq_ignore_ascii_case("utc") => Some(("TimeZone", "UTC")),
        // pg_char_to_encoding() looks at letters and digits only.
        "client_encoding" => {
            let letters = value.chars().filter(char::is_ascii_alphanumeric);
            let is_utf8 = letters.map(|c| c.to_ascii_lowercase()).eq("utf8".chars());
            is_utf8.then_some(("client_encoding", "UTF8"))
        }
        _ => None,
    }
}

impl Constant {
    /// `RowDescription`.
    pub(super) fn describe(self, out: &mut Vec<u8>) {
        let field = FieldDescription {
            type_oid: oid::INT4,
            type_len: 4,
            format: self.format,
            ..FieldDescription::text(NAMELESS)
        };
        backend::row_description(out, &[field]);
    }

    fn row(self, out: &mut Vec<u8>) {
        match self.format {
            Format::Text => {
                backend::data_row(out, &[Some(self.value.to_string().as_bytes())]);
            }
            Format::Binary => backend::data_row(out, &[Some(&self.value.to_be_bytes())]),
        }
    }

    /// Execute with this limit of rows, 0 for none.
    pub(super) fn execute(&mut self, max_rows: i32, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.fetched, true) {
            return backend::command_complete(out, "SELECT 0");
        }
        observe::routed(RouteKind::Local);
        self.row(out);
        if max_rows == 1 {
            backend::portal_suspended(out);
        } else {
            backend::command_complete(out, "SELECT 1");
        }
    }
}

impl Executor {
    /// The session has nothing that a shard would have to be asked about, and this one is up.
    fn is_foregone(&mut self, shard: ShardId) -> bool {
        let pool = &self.worker.shared.config.pool;
        pool.local_answers
            && pool.mode != PoolMode::Session
            && self.session.transaction == Transaction::Idle
            && self.held.is_empty()
            && self.piece.is_none()
            && !self.batch.is_open()
            && !self.session.trace
            && self.pool(shard).is_ok_and(Pool::is_up)
    }

    /// Answers `SELECT 1` as a simple query, up to `ReadyForQuery`; false if the shard has to.
    pub(super) fn answer_constant(
        &mut self,
        planned: &Planned,
        query: &[u8],
        shard: ShardId,
    ) -> bool {
        if !self.is_foregone(shard) {
            return false;
        }
        let text = query.get(planned.start as usize..planned.end as usize).unwrap_or_default();
        let digits = text.iter().position(u8::is_ascii_digit).and_then(|at| text.get(at..));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(value) = digits.and_then(|digits| digits.parse().ok()) else { return false };
        let mut constant = Constant { value, format: Format::Text, fetched: false };
        self.last_route.note_local();
        constant.describe(&mut self.io.outbox);
        constant.execute(0, &mut self.io.outbox);
        self.ready();
        true
    }

    /// The portal of `SELECT 1`; `None` if the shard has to be asked. What was parsed for it alone is then
    /// not sent either.
    pub(super) fn bind_constant(
        &mut self,
        view: &BindView<'_>,
        plan: &Plan,
        unit: &mut Unit,
    ) -> Option<Portal> {
        let statement = self.statements.get(view.statement)?;
        let value = value(statement.text().as_bytes(), &statement.readied.literals)?;
        let formats = view.result_formats();
        let plain = view.is_empty() && statement.oids.is_empty() && formats.len() <= 1;
        let taken = !view.portal.is_empty() && self.portals.contains(view.portal);
        let parsed = unit.ops.iter().rev().take_while(|op| match op {
            Op::ParseUnnamed(_) => view.statement.is_empty(),
            Op::ParseNamed { client, .. } => client == view.statement,
            _ => false,
        });
        let parsed = parsed.count();
        let before = unit.ops.len() - parsed;
        let alone = unit.ops.iter().take(before).all(|op| matches!(op, Op::Inject(_)));
        if !plain || taken || !alone || parsed > 1 {
            return None;
        }
        let shard = self.one_shard(plan).ok()?;
        if !self.is_foregone(shard) {
            return None;
        }
        self.last_route.note_local();
        unit.ops.truncate(before);
        if parsed > 0 {
            unit.unnamed_parsed = false;
            unit.inject(backend::parse_complete);
        }
        unit.inject(backend::bind_complete);
        Some(Portal::Constant(Constant { value, format: formats.of(0), fetched: false }))
    }

    /// A setting whose acceptance is foregone is made: what the client is told of it behind the command's
    /// tag.
    pub(super) fn settle_foregone(&mut self, class: &Class) -> Option<Vec<u8>> {
        let Class::Set(set) = class else { return None };
        let (name, value) = known_setting(set)?;
        let told = |name: &str| {
            let found = self.told.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.as_str())
        };
        let version = told("server_version")?;
        let digits = version.bytes().take_while(u8::is_ascii_digit).count();
        let version: u32 = version.get(..digits)?.parse().ok()?;
        let convertible = name != "client_encoding" || told("server_encoding") == Some("UTF8");
        let unchanged = told(name) == Some(value);
        let home = self.world.map.default_shard();
        if version < REPORTS_BEHIND
            || !convertible
            || self.session.shard().is_some()
            || !self.is_foregone(home)
        {
            return None;
        }
        // Every connection is in UTF8 unless a session says otherwise.
        let said = self.session.settings.current().value(&set.name).is_some();
        if said || !unchanged || name != "client_encoding" {
            let value = crate::sql::quote::quote_literal(value);
            self.session.settings.set(&set.name, Some(&value), false);
        }
        self.follow_settings();
        self.last_route.note_local();
        observe::routed(RouteKind::Local);
        let mut report = Vec::new();
        if !unchanged {
            backend::parameter_status(&mut report, name, value);
            self.note_told(name, value);
        }
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_select_and_one_integer_is_constant() {
        for (shape, expect) in [
            (&b"SELECT \x01"[..], true),
            (b"select \x01", true),
            (b"SELECT \x02", false),
            (b"SELECT \x03", false),
            (b"SELECT \x01, \x01", false),
            (b"SELECT (\x01)", false),
            (b"SELECT -\x01", false),
            (b"SELECTS \x01", false),
            (b"SELECT ALL \x01", false),
            (b" \x01", false),
        ] {
            assert_eq!(is_constant(shape), expect, "{shape:?}");
        }
    }

    #[test]
    fn known_settings_are_those_that_every_server_has() {
        let set = |name: &str, value: &str| SetCommand {
            local: false,
            name: name.to_owned(),
            value: SetValue::One(value.to_owned()),
            span: crate::sql::ir::Span::default(),
        };
        let check = |name: &str, value: &str, expect: Option<&str>| {
            let found = known_setting(&set(name, value)).map(|(_, value)| value);
            assert_eq!(found, expect, "{name} {value}");
        };
        check("timezone", "UTC", Some("UTC"));
        check("timezone", "utc", Some("UTC"));
        check("timezone", "Europe/Berlin", None);
        check("client_encoding", "utf-8", Some("UTF8"));
        check("client_encoding", "UNICODE", None);
        check("client_encoding", "LATIN1", None);
        let local = SetCommand { local: true, ..set("timezone", "UTC") };
        assert_eq!(known_setting(&local), None);
    }
}
