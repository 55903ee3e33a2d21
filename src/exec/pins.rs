//! Why a connection stays with its client, and when it may go.
//!
//! What a session leaves on its connection (a temporary table, an advisory lock, a channel it listens on) is
//! that session's alone: the connection is *pinned*. A statement that may end or begin such a thing raises
//! a doubt, and when the client next has nothing to say the connection is asked what is left on it
//! ([`INQUIRY`]): so the answer is PostgreSQL's own, whatever functions, rolled back transactions or DO
//! blocks have done. What can't be asked (settings by names that nobody lists, the session's sequences)
//! stays until DISCARD ALL or the client's end; then the connection is reset and goes back.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::cancel::Quiet;
use super::io::with_read_buffer;
use super::{Executor, Held};
use crate::backend::{Lease, Notices};
use crate::observe;
use crate::sql::class::Class;
use crate::sql::ir::{CallKind, SourceKind, Statement, Utility, UtilityKind};
use crate::sql::temporary::TemporaryNames;
use crate::wire;

/// A reason to keep a connection. The order is that of the bits that operators are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// It listens on a channel.
    Listen,
    /// It holds an advisory lock of the session.
    AdvisoryLock,
    /// It has temporary objects.
    TemporaryTable,
    /// A cursor WITH HOLD is open.
    HoldCursor,
    /// A sequence was drawn from by name, so that currval and lastval mean something.
    Sequence,
    /// A setting that can't be said again by name and value.
    Setting,
    /// Code ran that may have left anything.
    OpaqueCode,
    /// `pool.mode = "session"`.
    Session,
    /// A statement was prepared by SQL.
    Prepared,
    /// The schema was changed where event triggers run code of their own.
    EventTrigger,
}

impl Pin {
    /// All of them, in the order of their bits.
    pub const ALL: [Self; 10] = [
        Self::Listen,
        Self::AdvisoryLock,
        Self::TemporaryTable,
        Self::HoldCursor,
        Self::Sequence,
        Self::Setting,
        Self::OpaqueCode,
        Self::Session,
        Self::Prepared,
        Self::EventTrigger,
    ];

    /// As metrics and operators know it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::AdvisoryLock => "advisory lock",
            Self::TemporaryTable => "temporary table",
            Self::HoldCursor => "cursor",
            Self::Sequence => "sequence",
            Self::Setting => "setting",
            Self::OpaqueCode => "opaque code",
            Self::Session => "session pooling",
            Self::Prepared => "prepared statement",
            Self::EventTrigger => "event trigger",
        }
    }
}

/// A set of reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u32);

impl Pins {
    /// None.
    pub const NONE: Self = Self(0);

    /// No reason to keep a connection, but it goes with them: `pg_notify` was called. What it says is heard when its
    /// transaction commits.
    const NOTIFIES: Self = Self(1 << 31);

    /// One reason.
    pub const fn of(pin: Pin) -> Self {
        Self(1 << pin as u32)
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// There is none.
    pub const fn is_empty(self) -> bool {
        self.reasons().0 == 0
    }

    /// Reasons alone.
    #[must_use]
    const fn reasons(self) -> Self {
        Self(self.0 & !Self::NOTIFIES.0)
    }

    /// It listens or notifies: the transaction can't be prepared, and does so when it commits.
    pub(super) const fn notifies(self) -> bool {
        self.0 & Self::NOTIFIES.0 != 0 || self.has(Pin::Listen)
    }

    /// This one is among them.
    pub const fn has(self, pin: Pin) -> bool {
        self.0 & (1 << pin as u32) != 0
    }

    /// As bits, in the order of [`Pin::ALL`].
    pub const fn bits(self) -> u32 {
        self.reasons().0
    }
}

/// What no question answers.
const UNASKABLE: Pins = Pins::of(Pin::Sequence)
    .with(Pins::of(Pin::Setting))
    .with(Pins::of(Pin::OpaqueCode))
    .with(Pins::of(Pin::Session));

/// What is left on a connection outside a transaction: advisory locks, temporary objects (all that depends
/// on the temporary schema), cursors, channels, and statements prepared by SQL; and whether event triggers
/// may have run. A column for each; then the names of temporary relations, unless one has a slash in it.
const INQUIRY: &str = "SELECT \
    EXISTS (SELECT FROM pg_catalog.pg_locks \
        WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()), \
    pg_catalog.pg_my_temp_schema() <> 0 AND EXISTS (SELECT FROM pg_catalog.pg_depend \
        WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass \
        AND refobjid = pg_catalog.pg_my_temp_schema()), \
    EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable), \
    EXISTS (SELECT FROM pg_catalog.pg_listening_channels()), \
    EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql), \
    EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'), \
    (SELECT pg_catalog.string_agg(relname, '/') FROM pg_catalog.pg_class \
        WHERE relnamespace = pg_catalog.pg_my_temp_schema() \
        HAVING NOT pg_catalog.bool_or(relname ~ '/'))";

/// What the columns of [`INQUIRY`] are about.
const ASKED: [Pin; 6] = [
    Pin::AdvisoryLock,
    Pin::TemporaryTable,
    Pin::HoldCursor,
    Pin::Listen,
    Pin::Prepared,
    Pin::EventTrigger,
];

/// How long a connection may take to answer, or to be reset.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Settings that no client's can be: whoever gets the connection says its own again.
pub(super) const NOBODYS_SETTINGS: u64 = u64::MAX;

/// What a statement leaves on its connection, as far as its shape tells.
pub(super) fn left_by(statement: Option<&Statement>, class: &Class, text: &str) -> Pins {
    match statement {
        Some(Statement::Query(analysis)) => {
            let are_told = analysis.are_settings_told();
            let calls = analysis.calls.iter().map(|call| match call.kind {
                CallKind::Sequence => Pins::of(Pin::Sequence),
                CallKind::AdvisoryLock { .. } => Pins::of(Pin::AdvisoryLock),
                CallKind::Setting if are_told => Pins::NONE,
                CallKind::Setting => Pins::of(Pin::Setting),
                CallKind::ReadsTables | CallKind::User(_) => Pins::of(Pin::OpaqueCode),
                CallKind::Notifies => Pins::NOTIFIES,
                CallKind::Measures
                | CallKind::Pure
                | CallKind::Time
                | CallKind::Stable
                | CallKind::Volatile => Pins::NONE,
            });
            let triggers = analysis.sources.iter().map(|source| match &source.kind {
                SourceKind::Table(table) if table.has_triggers => Pins::of(Pin::OpaqueCode),
                _ => Pins::NONE,
            });
            calls.chain(triggers).fold(Pins::NONE, Pins::with)
        }
        Some(Statement::Explain { inner, .. }) => left_by(Some(inner), class, text),
        Some(Statement::Declare { hold, inner }) => {
            let held = if *hold { Pins::of(Pin::HoldCursor) } else { Pins::NONE };
            held.with(left_by(Some(inner), class, text))
        }
        Some(Statement::CreateTemporary { inner }) => {
            let own = Pins::of(Pin::TemporaryTable).with(Pins::of(Pin::EventTrigger));
            own.with(left_by(Some(inner), class, text))
        }
        Some(Statement::Utility(utility)) => left_by_utility(utility, class, text),
        Some(Statement::Opaque(_)) => Pins::of(Pin::OpaqueCode),
        None => Pins::NONE,
    }
}

fn left_by_utility(utility: &Utility, class: &Class, text: &str) -> Pins {
    let code = Pins::of(Pin::OpaqueCode);
    // Its query may call anything, if it calls at all.
    let called = if text.contains('(') { code } else { Pins::NONE };
    let from_query = matches!(class, Class::Definition { from_query: true, .. });
    let events = Pins::of(Pin::EventTrigger);
    match utility.kind {
        UtilityKind::Notify => Pins::of(Pin::Listen),
        UtilityKind::Cursor => Pins::of(Pin::HoldCursor).with(called),
        UtilityKind::Prepared if matches!(class, Class::Prepare { .. }) => {
            Pins::of(Pin::Prepared).with(called)
        }
        UtilityKind::Temporary if from_query => {
            Pins::of(Pin::TemporaryTable).with(events).with(called)
        }
        UtilityKind::Temporary => Pins::of(Pin::TemporaryTable).with(events),
        UtilityKind::Definition if !from_query => events,
        // Functions of indexes and materialized views run with their settings undone behind them
        // (`SECURITY_RESTRICTED_OPERATION`); a lock would stay.
        UtilityKind::Maintenance if utility.tag != "LOAD" => {
            Pins::of(Pin::AdvisoryLock).with(events)
        }
        UtilityKind::Set
        | UtilityKind::Show
        | UtilityKind::Discard
        | UtilityKind::Lock
        | UtilityKind::TwoPhase
        | UtilityKind::ClusterWide => Pins::NONE,
        _ => code.with(events),
    }
}

/// It may have ended what a connection is kept for.
pub(super) fn raises_doubt(class: &Class) -> bool {
    matches!(
        class,
        Class::Listen
            | Class::Unlisten
            | Class::Close(_)
            | Class::Fetch(_)
            | Class::Declare(_)
            | Class::Discard
            | Class::Deallocate(_)
            | Class::Prepare { .. }
            | Class::Definition { .. }
            | Class::Commit { .. }
            | Class::Rollback { .. }
            | Class::RollbackTo(_)
    )
}

impl Held {
    /// It stays with its client, for these reasons.
    pub(super) fn pin(&mut self, pins: Pins) {
        self.pinned = true;
        for pin in Pin::ALL.into_iter().filter(|pin| pins.has(*pin) && !self.pins.has(*pin)) {
            observe::pinned(pin.label());
        }
        self.pins = self.pins.with(pins.reasons());
        self.doubtful = true;
    }

    /// Nobody waits for it, and nothing is unfinished on it.
    fn is_quiet(&self) -> bool {
        self.lease.tx_status() == b'I' && self.lease.is_idle()
    }
}

impl Executor {
    /// Tells operators why this client keeps connections.
    pub(super) fn show_pins(&self) {
        let pins = self.held.iter().fold(Pins::NONE, |all, held| all.with(held.pins));
        self.client.set_pins(pins.bits());
    }

    /// Whether a connection is to be asked what is left on it, before this client is waited for.
    #[inline]
    pub fn is_in_doubt(&self) -> bool {
        !self.held.is_empty()
            && !self.batch.is_open()
            && self.held.iter().any(|held| held.doubtful && held.is_quiet())
    }

    /// Asks the connections that may no longer be needed, and gives back those that are not.
    ///
    /// # Cancel safety
    ///
    /// None: a connection is then in the middle of an answer. Its lease closes it when dropped.
    pub async fn resolve_doubts(&mut self) {
        while let Some(at) = self.held.iter().position(|held| held.doubtful && held.is_quiet()) {
            self.ask(at).await;
        }
        self.show_pins();
    }

    async fn ask(&mut self, at: usize) {
        let Some(held) = self.held.get_mut(at) else { return };
        held.doubtful = false;
        if !held.pinned || held.pins.and(UNASKABLE) == held.pins {
            return;
        }
        let asked = tokio::time::timeout(ANSWER_MAX, held.lease.simple_query(INQUIRY)).await;
        let Ok(Ok(rows)) = asked else { return self.lose(at) };
        let row = rows.first().map(Vec::as_slice).unwrap_or_default();
        let mut pins = held.pins.and(UNASKABLE);
        for (pin, left) in ASKED.into_iter().zip(row) {
            // That there are event triggers matters to those who have set them off.
            let concerned = pin != Pin::EventTrigger || held.pins.has(pin);
            if concerned && left.as_deref() == Some("t") {
                pins = pins.with(Pins::of(pin));
            }
        }
        let shard = held.shard;
        held.pins = pins;
        held.pinned = !pins.is_empty();
        if pins.has(Pin::TemporaryTable) {
            let names = row.get(ASKED.len()).cloned().flatten();
            let names = names.map(|names| names.split('/').map(str::to_owned).collect());
            self.session.temporary = Some((shard, TemporaryNames::new(names)));
        } else if self.session.temporary.as_ref().is_some_and(|(own, _)| *own == shard) {
            self.session.temporary = None;
        }
        self.take_notices(at);
        self.settle(at);
    }

    /// Passes on what a connection has said unasked.
    pub(super) fn take_notices(&mut self, at: usize) {
        let Some(held) = self.held.get_mut(at) else { return };
        self.io.outbox.append(&mut held.lease.take_notices());
    }

    /// Waits for the client's next words; meanwhile what its own connections say (notifications) goes to
    /// the outbox. False when the client is gone.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when dropped.
    pub async fn wait(&mut self) -> std::io::Result<bool> {
        if !self.held.iter().any(|held| held.pinned) {
            return self.io.fill().await;
        }
        let heard = poll_fn(|cx| {
            if let Poll::Ready(filled) = self.io.poll_fill(cx) {
                return Poll::Ready(Ok(filled));
            }
            self.poll_shards(cx).map(Err)
        });
        match heard.await {
            Ok(filled) => filled,
            Err((at, last_words)) => {
                if let Some(at) = at {
                    self.last_words = last_words.map(Vec::into_boxed_slice);
                    self.lose(at);
                }
                Ok(true)
            }
        }
    }

    /// Ready when there is something for the client, or a connection (its index) has ended, with the
    /// server's last words.
    fn poll_shards(&mut self, cx: &mut Context<'_>) -> Poll<(Option<usize>, Option<Vec<u8>>)> {
        let mut heard = false;
        for (at, held) in self.held.iter_mut().enumerate() {
            if !held.pinned || held.lease.tx_status() != b'I' || held.lease.awaiting() > 0 {
                continue;
            }
            let read = with_read_buffer(|buffer| held.lease.poll_notices(cx, buffer));
            match read {
                Poll::Pending => {}
                Poll::Ready(Notices::Some) => {
                    heard = true;
                    self.io.outbox.append(&mut held.lease.take_notices());
                }
                Poll::Ready(Notices::End(words)) => return Poll::Ready((Some(at), words)),
            }
        }
        if heard { Poll::Ready((None, None)) } else { Poll::Pending }
    }

    /// The client is gone, in good order or not: what it kept is rolled back and reset and goes back, or is
    /// closed where a statement is under way.
    pub fn leave(&mut self) {
        let quiet = self.cancel.rest();
        for held in self.held.drain(..) {
            if held.lease.is_between_statements() && tokio::runtime::Handle::try_current().is_ok() {
                tokio::spawn(reset(held.lease, quiet.clone()));
            }
        }
    }

    /// Before DISCARD ALL is answered: what the client kept is gone by then (others wait for its locks), and
    /// its connections go back. To be asked between transactions.
    pub(super) async fn discard_held(&mut self) {
        let quiet = self.cancel.rest();
        for held in std::mem::take(&mut self.held) {
            let mut said = reset(held.lease, quiet.clone()).await;
            self.io.outbox.append(&mut said);
        }
        self.show_pins();
    }
}

/// Makes a connection as it was when it was new, and gives it back; one that does not answer is closed.
/// What it has said unasked on the way (notifications) is returned.
async fn reset(mut lease: Lease, quiet: Option<Quiet>) -> Vec<u8> {
    // A cancel request that is under way must hit neither this nor the next client.
    if let Some(quiet) = quiet
        && !quiet.wait().await
    {
        return Vec::new();
    }
    if lease.tx_status() != b'I' && !says(&mut lease, "ROLLBACK").await {
        return Vec::new();
    }
    if !says(&mut lease, "DISCARD ALL").await {
        return Vec::new();
    }
    let said = lease.take_notices();
    lease.prepared.clear();
    lease.settings_id = NOBODYS_SETTINGS;
    lease.release();
    said
}

/// Whether a statement works, within a time that is not too long.
async fn says(lease: &mut Lease, sql: &str) -> bool {
    let done = tokio::time::timeout(ANSWER_MAX, lease.simple_query(sql)).await;
    matches!(done, Ok(Ok(_)))
}

/// The server's last words as a FATAL error of its own, as they came.
pub(super) fn as_message(body: &[u8]) -> Vec<u8> {
    wire::frame::of(wire::backend::tag::ERROR, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_bits() {
        for (bit, pin) in Pin::ALL.into_iter().enumerate() {
            assert_eq!(Pins::of(pin).bits(), 1 << bit, "{}", pin.label());
        }
        let both = Pins::of(Pin::Listen).with(Pins::of(Pin::Setting));
        assert!(both.has(Pin::Listen) && both.has(Pin::Setting) && !both.has(Pin::Prepared));
        assert_eq!(both.and(UNASKABLE), Pins::of(Pin::Setting));
    }
}
