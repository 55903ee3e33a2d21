//! Transactions that wrote on several shards: how they commit on all of them or on none.
//!
//! Every shard that was written on but one, the *coordinator*, gets PREPARE TRANSACTION. When all have answered, the
//! coordinator's own transaction inserts the *decision*, a row under the transaction's [`Gid`], and commits: that one
//! COMMIT commits the rows that were written there and decides about the others at once. Then they get COMMIT
//! PREPARED. Whoever finds something prepared and left behind inserts an abort *tombstone* under the same unique gid
//! first: if that succeeds the transaction can't commit any more, and is rolled back; if it doesn't, the row that
//! stands there says what was decided.
//!
//! Main types: [`Commit`], the machine of one transaction's end, which is told what came of each [`Step`];
//! [`Gid`]; [`Verdict`]; `sql` has what is said to PostgreSQL.
//!
//! Invariants, searched through in `tests`: nothing is committed on one shard and rolled back on another, whatever
//! is lost when and whoever recovers meanwhile; a client is never told what is not so.
//!
//! Absent: connections, clocks, the map.

mod gid;
pub mod sql;
#[cfg(test)]
mod tests;

pub use self::gid::{Gid, PREFIX};

/// What was decided about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is committed.
    Committed,
    /// It is rolled back.
    Aborted,
}

/// What a shard said to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// It did it.
    Done,
    /// It answered with an error, and has done nothing: its transaction is rolled back.
    Refused,
    /// Nothing, or not to the end: it may have done it, may do it still, or never.
    Lost,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// PREPARE TRANSACTION on every participant: [`Commit::prepared`].
    Prepare,
    /// The decision's row and COMMIT, in the coordinator's transaction: [`Commit::decided`].
    Decide,
    /// The tombstone, on a new connection to the coordinator: [`Commit::asked`].
    Ask,
    /// The coordinator's transaction is rolled back if it is open, and what is prepared is finished like this on
    /// these participants: [`Commit::finished`].
    Finish(Verdict),
    /// That is all.
    Over(Outcome),
}

/// How it ended, as far as that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Decided like this, and carried out wherever [`Commit::is_left`] does not say otherwise.
    Decided(Verdict),
    /// Decided, but not known how: recovery will find out.
    Unknown,
}

/// What a participant is known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Has {
    /// An open transaction.
    Open,
    /// It has prepared.
    Prepared,
    /// It may have prepared, or may do so still.
    Doubtful,
    /// Nothing any more.
    Nothing,
}

/// The end of one transaction that wrote on several shards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    participants: Vec<Has>,
    step: Step,
}

impl Commit {
    /// For so many participants, the coordinator not among them.
    pub fn new(participants: usize) -> Self {
        Self { participants: vec![Has::Open; participants], step: Step::Prepare }
    }

    /// What is to be done next.
    pub fn step(&self) -> Step {
        self.step
    }

    /// What the participants said to PREPARE TRANSACTION, in order. It goes on only if all of them have prepared.
    pub fn prepared(&mut self, words: impl IntoIterator<Item = Word>) {
        if self.step != Step::Prepare {
            return;
        }
        let mut words = words.into_iter();
        for has in &mut self.participants {
            *has = match words.next() {
                Some(Word::Done) => Has::Prepared,
                Some(Word::Refused) => Has::Nothing,
                Some(Word::Lost) | None => Has::Doubtful,
            };
        }
        let all = self.participants.iter().all(|has| *has == Has::Prepared);
        self.step = if all { Step::Decide } else { Step::Finish(Verdict::Aborted) };
    }

    /// The client wants it no more, or the coordinator is lost: until the decision is sent it can be given up.
    pub fn give_up(&mut self) {
        if self.step == Step::Decide {
            self.step = Step::Finish(Verdict::Aborted);
        }
    }

    /// What the coordinator said to the decision.
    pub fn decided(&mut self, word: Word) {
        if self.step == Step::Decide {
            self.step = match word {
                Word::Done => Step::Finish(Verdict::Committed),
                Word::Refused => Step::Finish(Verdict::Aborted),
                Word::Lost => Step::Ask,
            };
        }
    }

    /// What stands under the gid, now that the tombstone was tried; `None` if the coordinator did not say in time.
    pub fn asked(&mut self, verdict: Option<Verdict>) {
        if self.step == Step::Ask {
            self.step = match verdict {
                Some(verdict) => Step::Finish(verdict),
                None => Step::Over(Outcome::Unknown),
            };
        }
    }

    /// Whether a participant has, or may have, something to be finished.
    pub fn is_left(&self, participant: usize) -> bool {
        let has = self.participants.get(participant);
        matches!(has, Some(Has::Prepared | Has::Doubtful))
    }

    /// Whether it is known to have prepared.
    pub fn has_prepared(&self, participant: usize) -> bool {
        self.participants.get(participant) == Some(&Has::Prepared)
    }

    /// Which participants have finished; the others are left to recovery.
    pub fn finished(&mut self, done: impl IntoIterator<Item = bool>) {
        let Step::Finish(verdict) = self.step else { return };
        for (has, done) in self.participants.iter_mut().zip(done) {
            // One that may prepare still has finished nothing.
            if done && *has == Has::Prepared {
                *has = Has::Nothing;
            }
        }
        self.step = Step::Over(Outcome::Decided(verdict));
    }
}
