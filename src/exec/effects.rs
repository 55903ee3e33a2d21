//! What statements that were carried out mean for the session: its settings, its transaction, what its
//! connection carries.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::control::is_control;
use super::pins::{Pin, Pins, raises_doubt};
use super::{Executor, worker};
use crate::error::{SqlError, SqlState};
use crate::plan::Plan;
use crate::session::settings::SessionSettings;
use crate::session::transaction::{Transaction, set_transaction_sql};
use crate::sql::class::{Class, SetCommand, SetValue, TransactionModes, set_transaction_modes};
use crate::sql::quote::quote_literal;
use crate::sql::temporary::TemporaryNames;
use crate::wire::response::ServerError;

impl Executor {
    /// [`Self::finish`] for one statement.
    pub(super) fn finish_one(&mut self, at: usize, plan: &Plan, class: &Class) {
        let failed = self.responses.failed();
        let (taints, schema) = (plan.taints, plan.changes_schema);
        match &plan.settings {
            _ if failed => self.finish(at, taints, schema, &[], true),
            None => self.finish(at, taints, schema, &[class], false),
            Some(_) => {
                let effects = effects_of(class, plan);
                let effects: SmallVec<[&Class; 4]> = effects.iter().map(Cow::as_ref).collect();
                self.finish(at, taints, schema, &effects, false);
            }
        }
    }

    /// After an exchange: what the shard's last word and the statements that were carried out (up to an
    /// error) mean for the session.
    pub(super) fn finish(
        &mut self,
        at: usize,
        taints: bool,
        schema: bool,
        effects: &[&Class],
        failed: bool,
    ) {
        let Some(shard) = self.held.get(at).map(|held| held.shard) else { return };
        let status = self.responses.status();
        let was_open = self.session.transaction.is_open();
        self.follow(at, effects, failed, status);
        if was_open && status == b'I' {
            self.portals.clear();
            self.forget_cursors();
        }
        if was_open || status != b'I' {
            self.session.transaction.settle(shard, status);
        }
        self.session.schema_changed |= schema && !failed;
        self.session.schema_stale |= schema && !failed;
        if !self.made.is_empty() {
            let alone = !was_open && status == b'I' && !effects.iter().any(|c| is_control(c));
            self.learn_made(alone && !failed);
        }
        let left = std::mem::take(&mut self.leaving);
        let nothing_ran =
            failed && self.responses.commands() == 0 && is_of_reading(self.responses.error());
        if let Some(held) = self.held.get_mut(at) {
            if taints && !nothing_ran {
                held.pin(if left.is_empty() { Pins::of(Pin::OpaqueCode) } else { left });
            }
            let ends = taints || !left.is_empty() || effects.iter().any(|c| raises_doubt(c));
            held.doubtful |= held.pinned && ends;
            if held.pinned {
                self.show_pins();
            }
        }
        self.follow_settings();
        self.settle(at);
    }

    /// Follows the settings through statements, the transactions among them and their end. Those that no
    /// BEGIN precedes are one implicit transaction: an error undoes them.
    pub(super) fn follow(&mut self, at: usize, effects: &[&Class], failed: bool, status: u8) {
        let mut open = self.session.transaction.is_open();
        let mut aborted = self.session.transaction.status() == b'E';
        let several = failed || effects.len() > 1;
        let mut before = (several && !open).then(|| self.session.settings.clone());
        for class in effects {
            let settings = &mut self.session.settings;
            match class {
                Class::Begin(modes) if open => {
                    if let Some(sql) = set_transaction_sql(*modes) {
                        settings.say(&sql);
                    }
                }
                Class::Begin(modes) => {
                    self.session.modes = Some(*modes);
                    self.session.inherited = Some(TransactionModes::default());
                    match before.take() {
                        Some(before) => settings.begin_within(&before),
                        None => settings.begin(),
                    }
                    open = true;
                }
                Class::Commit { chain } | Class::Rollback { chain } => {
                    // The next transaction has the modes that this one was last given, or that an error has left.
                    let settings_said = settings.has_said();
                    let was_aborted = aborted;
                    let commit = matches!(class, Class::Commit { .. });
                    if open {
                        settings.end(commit && !aborted);
                    } else if let (false, Some(before)) = (commit, before.take()) {
                        *settings = before;
                    }
                    aborted = false;
                    open &= *chain;
                    if open {
                        if was_aborted {
                            self.session.modes = self.session.inherited;
                        } else if settings_said {
                            self.session.modes = None;
                        }
                        self.session.inherited = self.session.modes;
                        settings.begin();
                    }
                    before = (several && !open).then(|| settings.clone());
                }
                class => {
                    aborted &= !matches!(class, Class::RollbackTo(_));
                    self.apply(class, at);
                }
            }
        }
        if let (true, false, Some(before)) = (failed, open, before) {
            self.session.settings = before;
        }
        match (open, status == b'I') {
            (true, true) => self.session.settings.end(!failed),
            (false, false) => {
                self.session.modes = None;
                self.session.inherited = None;
                self.session.settings.begin();
            }
            _ => {}
        }
    }

    /// What a successful statement means for the settings.
    pub(super) fn apply(&mut self, class: &Class, at: usize) {
        if let Some(shard) = self.held.get(at).map(|held| held.shard) {
            self.note_cursor(class, shard);
        }
        match class {
            Class::Set(set) => {
                if !self.apply_set(set)
                    && let Some(held) = self.held.get_mut(at)
                {
                    held.pin(Pins::of(Pin::Setting));
                }
            }
            Class::Reset(Some(name)) if self.keep_ours(&SetCommand::reset(name)) => {}
            Class::Reset(Some(name)) => self.session.settings.set(name, None, false),
            Class::Reset(None) => self.session.settings.reset_all(),
            Class::Savepoint(name) => self.session.settings.savepoint(name),
            Class::Release(name) => self.session.settings.release(name),
            Class::RollbackTo(name) => {
                self.session.settings.rollback_to(name);
                // What could not be told is undone with the rest.
                self.held.iter_mut().for_each(|held| held.untold.clear());
            }
            Class::Definition { temporary: true, name, .. } => {
                if let Some(held) = self.held.get(at) {
                    let names = match self.session.temporary.take() {
                        None => TemporaryNames::new(Some(Vec::new())),
                        Some((shard, names)) if shard == held.shard => names,
                        Some(_) => TemporaryNames::new(None),
                    };
                    self.session.temporary = Some((held.shard, names.with(name.as_deref())));
                }
            }
            Class::SetTransaction { session: true, text } => self.set_characteristics(text),
            Class::SetTransaction { session: false, text } | Class::SetConstraints(text) => {
                self.session.settings.say(text);
            }
            // The names that we have given went with the client's own.
            Class::Deallocate(None) => {
                if let Some(held) = self.held.get_mut(at) {
                    held.lease.prepared.clear();
                }
            }
            _ => {}
        }
    }

    /// Remembers SET SESSION CHARACTERISTICS as what it is, some settings of the session's
    /// (`ExecSetVariableStmt`).
    fn set_characteristics(&mut self, text: &str) {
        for (name, value) in set_transaction_modes(text).unwrap_or_default().as_defaults() {
            self.session.settings.set(name, Some(&quote_literal(value)), false);
        }
    }

    /// Remembers a SET; false if it can't be said again by its name and value alone.
    fn apply_set(&mut self, set: &SetCommand) -> bool {
        let scope = if set.local { "SET LOCAL" } else { "SET" };
        if set.name.starts_with("transaction_") {
            if let SetValue::One(value) = &set.value {
                let sql = format!("{scope} {} TO {}", set.name, quote_literal(value));
                self.session.settings.say(&sql);
            }
            return true;
        }
        if set.local && !self.session.settings.in_block() {
            return true;
        }
        if set.name == "pgmeridian.trace" || self.keep_ours(set) {
            return true;
        }
        match &set.value {
            SetValue::Default => self.session.settings.set(&set.name, None, set.local),
            SetValue::One(value) => {
                self.session.settings.set(&set.name, Some(&quote_literal(value)), set.local);
            }
            SetValue::Raw(text) if set.name == "timezone" => {
                self.session.settings.say(&format!("{scope} TIME ZONE {text}"));
                return false;
            }
            SetValue::Raw(text) => self.session.settings.set(&set.name, Some(text), set.local),
        }
        true
    }

    /// A setting before the transaction has reached a shard goes along with its BEGIN.
    pub(super) fn defer_setting(&mut self, class: &Class, text: &str) -> bool {
        let settles = matches!(
            class,
            Class::Set(_)
                | Class::Reset(_)
                | Class::SetTransaction { .. }
                | Class::SetConstraints(_)
        );
        let Transaction::Pending(pending) = &mut self.session.transaction else { return false };
        // Where only one shard can be meant, it can be asked at once.
        if !settles || self.world.map.is_one_server() {
            return false;
        }
        pending.push(text);
        for sql in after_reset(&self.session.settings, class, true) {
            pending.push(&sql);
        }
        match class {
            Class::SetTransaction { session: true, .. } => self.set_characteristics(text),
            Class::SetTransaction { .. } | Class::SetConstraints(_) => {
                self.session.settings.say(text);
            }
            Class::Set(set) => {
                self.apply_set(&set.clone());
            }
            Class::Reset(Some(name)) => self.session.settings.set(name, None, false),
            Class::Reset(None) => self.session.settings.reset_all(),
            _ => {}
        }
        self.follow_settings();
        true
    }
}

/// What a statement that was carried out means: its class, and what it has set by function.
pub(super) fn effects_of<'s>(class: &'s Class, plan: &Plan) -> SmallVec<[Cow<'s, Class>; 1]> {
    let settings = plan.settings.iter().flatten();
    std::iter::once(Cow::Borrowed(class))
        .chain(settings.map(|set| Cow::Owned(Class::Set(set.clone()))))
        .collect()
}

/// What a shard must be told behind a RESET: see [`SessionSettings::after_reset`]. `block`: SET LOCAL has
/// a transaction to be local to.
pub(super) fn after_reset(settings: &SessionSettings, class: &Class, block: bool) -> Vec<String> {
    match class {
        Class::Reset(name) => settings.after_reset(name.as_deref(), false),
        Class::Set(SetCommand { name, value: SetValue::Default, local, .. }) if block || !local => {
            settings.after_reset(Some(name), *local)
        }
        _ => Vec::new(),
    }
}

/// The command tag of a setting (`CreateCommandTag`).
pub(super) fn setting_tag(class: &Class) -> &'static str {
    match class {
        Class::Reset(_) => "RESET",
        Class::SetConstraints(_) => "SET CONSTRAINTS",
        _ => "SET",
    }
}

/// Settings that decide what a statement's text means.
pub(super) const READING_SETTINGS: [&str; 5] = [
    "search_path",
    "role",
    "session_authorization",
    "standard_conforming_strings",
    "client_encoding",
];

/// Settings that decide which rows a statement is about.
pub(super) const SCOPE_SETTINGS: [&str; 2] = ["pgmeridian.key", "pgmeridian.shard"];

/// What a statement will have made of the settings, if it succeeds.
pub(super) fn foresee(settings: &mut SessionSettings, class: &Class) {
    match class {
        Class::Set(set) => {
            let value = match &set.value {
                SetValue::Default => None,
                SetValue::One(value) => Some(quote_literal(value)),
                SetValue::Raw(text) => Some(text.clone()),
            };
            settings.set(&set.name, value.as_deref(), set.local);
        }
        Class::Reset(Some(name)) => settings.set(name, None, false),
        Class::Reset(None) => settings.reset_all(),
        Class::Begin(_) => settings.begin(),
        Class::Commit { .. } => settings.end(true),
        Class::Rollback { .. } => settings.end(false),
        Class::Savepoint(name) => settings.savepoint(name),
        Class::Release(name) => settings.release(name),
        Class::RollbackTo(name) => settings.rollback_to(name),
        _ => {}
    }
}

/// In these encodings a byte below 0x80 may be a part of a character: quotes and backslashes can't be
/// found byte by byte, and no statement could be read safely (PostgreSQL manual, "Character Set Support").
pub(super) fn is_unsafe_encoding(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    matches!(
        plain.as_str(),
        "sjis"
            | "shiftjis"
            | "mskanji"
            | "win932"
            | "windows932"
            | "shiftjis2004"
            | "big5"
            | "win950"
            | "windows950"
            | "gbk"
            | "win936"
            | "windows936"
            | "uhc"
            | "win949"
            | "windows949"
            | "johab"
            | "gb18030"
    )
}

pub(super) fn unsafe_encoding(name: &str) -> SqlError {
    SqlError::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("client_encoding {name} is not supported"),
    )
    .detail("Its characters contain bytes that are also quotes and backslashes, so that statements can't be read safely.")
    .hint("Use UTF8.")
}

pub(super) fn refuse_unsafe_encoding(class: &Class) -> Result<(), SqlError> {
    match class {
        Class::Set(set) if set.name == "client_encoding" => match worker::plain(&set.value) {
            Some(name) if is_unsafe_encoding(name) => Err(unsafe_encoding(name)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
/// Whether an error says that the client's own text could not be read, so that none of it was carried out:
/// a syntax error with a place in that text and without a context. (One within code that runs has a
/// context: `plpgsql_exec_error_callback`, `sql_exec_error_callback`.)
fn is_of_reading(error: &[u8]) -> bool {
    ServerError::parse(error).is_ok_and(|error| {
        error.code() == "42601" && error.field(b'P').is_some() && error.field(b'W').is_none()
    })
}
