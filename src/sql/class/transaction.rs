//! Transaction control: BEGIN to RELEASE, and the modes of a transaction.

use super::words::Words;
use super::{Class, Isolation, TransactionModes};

/// BEGIN [WORK | TRANSACTION] [modes]
pub(super) fn begin(words: &mut Words<'_>) -> Option<Class> {
    noise(words);
    optional_modes(words).map(Class::Begin)
}

/// START TRANSACTION [modes]
pub(super) fn start(words: &mut Words<'_>) -> Option<Class> {
    if !words.take("transaction") {
        return None;
    }
    optional_modes(words).map(Class::Begin)
}

/// COMMIT or END [WORK | TRANSACTION] [AND [NO] CHAIN], COMMIT PREPARED 'gid'. (END PREPARED is none.)
pub(super) fn commit(words: &mut Words<'_>) -> Option<Class> {
    if words.is("prepared") {
        return two_phase(words);
    }
    chain(words).map(|chain| Class::Commit { chain })
}

/// ROLLBACK [WORK | TRANSACTION] [AND [NO] CHAIN | TO [SAVEPOINT] name], ROLLBACK PREPARED 'gid'
pub(super) fn rollback(words: &mut Words<'_>) -> Option<Class> {
    if words.is("prepared") {
        return two_phase(words);
    }
    let mut to = words.clone();
    noise(&mut to);
    if to.take("to") {
        return savepoint_name(&mut to).map(Class::RollbackTo);
    }
    abort(words)
}

/// ABORT [WORK | TRANSACTION] [AND [NO] CHAIN]
pub(super) fn abort(words: &mut Words<'_>) -> Option<Class> {
    chain(words).map(|chain| Class::Rollback { chain })
}

/// SAVEPOINT name
pub(super) fn savepoint(words: &mut Words<'_>) -> Option<Class> {
    let name = words.name()?;
    words.at_end().then_some(Class::Savepoint(name))
}

/// RELEASE [SAVEPOINT] name
pub(super) fn release(words: &mut Words<'_>) -> Option<Class> {
    savepoint_name(words).map(Class::Release)
}

/// The modes of SET TRANSACTION and of SET SESSION CHARACTERISTICS AS TRANSACTION; `None` for SET
/// TRANSACTION SNAPSHOT, and for a statement that is neither.
pub fn set_transaction_modes(statement: &str) -> Option<TransactionModes> {
    let mut words = Words::new(statement, true);
    if !words.take("set") {
        return None;
    }
    if !words.take_all(&["session", "characteristics", "as"]) && !words.take("local") {
        words.take("session");
    }
    if !words.take("transaction") {
        return None;
    }
    modes(&mut words)
}

fn noise(words: &mut Words<'_>) {
    if !words.take("work") {
        words.take("transaction");
    }
}

fn chain(words: &mut Words<'_>) -> Option<bool> {
    noise(words);
    if words.at_end() {
        return Some(false);
    }
    if !words.take("and") {
        return None;
    }
    let chain = !words.take("no");
    (words.take("chain") && words.at_end()).then_some(chain)
}

fn two_phase(words: &mut Words<'_>) -> Option<Class> {
    words.take("prepared");
    words.string_token()?;
    words.at_end().then_some(Class::TwoPhase)
}

/// `[SAVEPOINT] name` to the end; a savepoint may be called savepoint.
fn savepoint_name(words: &mut Words<'_>) -> Option<String> {
    let mut named = words.clone();
    if words.take("savepoint") && !words.at_end() {
        named = words.clone();
    }
    let name = named.name()?;
    named.at_end().then_some(name)
}

fn optional_modes(words: &mut Words<'_>) -> Option<TransactionModes> {
    if words.at_end() {
        return Some(TransactionModes::default());
    }
    modes(words)
}

/// One mode or more to the end, commas between them optional. Of a mode that is given twice the last one
/// counts, as in PostgreSQL.
fn modes(words: &mut Words<'_>) -> Option<TransactionModes> {
    let mut modes = TransactionModes::default();
    loop {
        mode(words, &mut modes)?;
        if words.at_end() {
            return Some(modes);
        }
        words.take_symbol(",");
    }
}

fn mode(words: &mut Words<'_>, modes: &mut TransactionModes) -> Option<()> {
    if words.take_all(&["isolation", "level"]) {
        modes.isolation = Some(isolation(words)?);
    } else if words.take_all(&["read", "only"]) {
        modes.read_only = Some(true);
    } else if words.take_all(&["read", "write"]) {
        modes.read_only = Some(false);
    } else if words.take("deferrable") {
        modes.deferrable = Some(true);
    } else if words.take_all(&["not", "deferrable"]) {
        modes.deferrable = Some(false);
    } else {
        return None;
    }
    Some(())
}

fn isolation(words: &mut Words<'_>) -> Option<Isolation> {
    if words.take_all(&["read", "uncommitted"]) {
        Some(Isolation::ReadUncommitted)
    } else if words.take_all(&["read", "committed"]) {
        Some(Isolation::ReadCommitted)
    } else if words.take_all(&["repeatable", "read"]) {
        Some(Isolation::RepeatableRead)
    } else if words.take("serializable") {
        Some(Isolation::Serializable)
    } else {
        None
    }
}
