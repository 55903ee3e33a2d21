//! Every order of events that two participants, a coordinator, the proxy and two that recover can come into.
//!
//! The proxy's messages may be carried out at once, later, or never; its connections break at any time, as it knows or
//! does not know; it dies at any time; who recovers tries the tombstone, and acts on what it has read whenever it
//! likes. In no state that can be reached is anything committed that is rolled back elsewhere.

use std::collections::HashSet;

use super::{Commit, Outcome, Step, Verdict, Word, sql};

const PARTICIPANTS: usize = 2;

/// What a participant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Open,
    /// PREPARE is on its way.
    Asked,
    Prepared,
    Committed,
    RolledBack,
}

/// What the coordinator's own transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Own {
    Open,
    /// The decision is on its way.
    Asked,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    parts: [Part; PARTICIPANTS],
    own: Own,
    /// What stands under the gid.
    row: Option<Verdict>,
    proxy: Option<Commit>,
    /// What the proxy has heard of what it asked last.
    heard: [Option<Word>; PARTICIPANTS],
    asked: bool,
    /// What each who recovers has read, and not carried out yet.
    read: [Option<Verdict>; 2],
    told: Option<Outcome>,
}

impl State {
    fn first() -> Self {
        Self {
            parts: [Part::Open; PARTICIPANTS],
            own: Own::Open,
            row: None,
            proxy: Some(Commit::new(PARTICIPANTS)),
            heard: [None; PARTICIPANTS],
            asked: false,
            read: [None; 2],
            told: None,
        }
    }

    /// The coordinator carries out the decision: false if a tombstone is in the way.
    fn decide(&mut self) -> bool {
        self.own = Own::Over;
        let free = self.row.is_none();
        if free {
            self.row = Some(Verdict::Committed);
        }
        free
    }

    /// The tombstone is tried; what stands there then.
    fn bury(&mut self) -> Verdict {
        *self.row.get_or_insert(Verdict::Aborted)
    }

    fn finish(&mut self, part: usize, verdict: Verdict) {
        if self.parts[part] == Part::Prepared {
            self.parts[part] = match verdict {
                Verdict::Committed => Part::Committed,
                Verdict::Aborted => Part::RolledBack,
            };
        }
    }

    fn check(&self) {
        let committed = self.row == Some(Verdict::Committed);
        for part in self.parts {
            assert!(part != Part::Committed || committed, "{self:?}");
            assert!(part != Part::RolledBack || !committed, "{self:?}");
        }
        match self.told {
            Some(Outcome::Decided(Verdict::Committed)) => assert!(committed, "{self:?}"),
            Some(Outcome::Decided(Verdict::Aborted)) => assert!(!committed, "{self:?}"),
            Some(Outcome::Unknown) | None => {}
        }
    }

    /// All states that can follow.
    fn next(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            all.push(state);
        };
        for n in 0..PARTICIPANTS {
            match self.parts[n] {
                Part::Asked => {
                    add(&|s| s.parts[n] = Part::Prepared);
                    // It failed there, or the message got lost.
                    add(&|s| s.parts[n] = Part::RolledBack);
                }
                Part::Open if self.proxy.is_none() || self.told.is_some() => {
                    add(&|s| s.parts[n] = Part::RolledBack);
                }
                Part::Prepared => {
                    for who in 0..2 {
                        add(&|s| s.read[who] = Some(s.bury()));
                    }
                }
                _ => {}
            }
            for who in 0..2 {
                if let Some(verdict) = self.read[who] {
                    add(&|s| {
                        s.finish(n, verdict);
                        s.read[who] = None;
                    });
                }
            }
        }
        match self.own {
            Own::Asked => {
                add(&|s| {
                    s.decide();
                });
                add(&|s| s.own = Own::Over);
            }
            // Its connection breaks.
            Own::Open => add(&|s| s.own = Own::Over),
            Own::Over => {}
        }
        if self.proxy.is_some() {
            add(&|s| s.proxy = None);
            all.extend(self.proxy_goes_on());
        }
        all
    }

    fn proxy_goes_on(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let Some(commit) = &self.proxy else { return all };
        let mut add = |change: &dyn Fn(&mut Self, &mut Commit)| {
            let mut state = self.clone();
            let mut commit = commit.clone();
            change(&mut state, &mut commit);
            state.proxy = Some(commit);
            all.push(state);
        };
        match commit.step() {
            Step::Prepare if !self.asked => add(&|s, _| {
                s.asked = true;
                for part in s.parts.iter_mut().filter(|part| **part == Part::Open) {
                    *part = Part::Asked;
                }
            }),
            Step::Prepare => {
                for n in (0..PARTICIPANTS).filter(|n| self.heard[*n].is_none()) {
                    match self.parts[n] {
                        Part::Prepared => add(&|s, _| s.heard[n] = Some(Word::Done)),
                        Part::RolledBack => add(&|s, _| s.heard[n] = Some(Word::Refused)),
                        _ => {}
                    }
                    add(&|s, _| s.heard[n] = Some(Word::Lost));
                }
                if self.heard.iter().all(Option::is_some) {
                    add(&|s, c| {
                        c.prepared(s.heard.iter().flatten().copied());
                        s.asked = false;
                    });
                }
            }
            Step::Decide if !self.asked => {
                add(&|_, c| c.give_up());
                add(&|s, _| {
                    s.asked = true;
                    if s.own == Own::Open {
                        s.own = Own::Asked;
                    }
                });
            }
            Step::Decide => {
                add(&|_, c| c.decided(Word::Lost));
                if self.own == Own::Asked {
                    add(&|s, c| {
                        let done = s.decide();
                        c.decided(if done { Word::Done } else { Word::Refused });
                    });
                }
            }
            Step::Ask => {
                add(&|s, c| c.asked(Some(s.bury())));
                add(&|_, c| c.asked(None));
            }
            Step::Finish(verdict) => {
                // Some are reached, some are not.
                for reached in 0..1 << PARTICIPANTS {
                    add(&|s, c| {
                        if s.own == Own::Open {
                            s.own = Own::Over;
                        }
                        let is_reached = |n: usize| reached & (1 << n) != 0;
                        for n in (0..PARTICIPANTS).filter(|n| is_reached(*n)) {
                            if c.is_left(n) {
                                s.finish(n, verdict);
                            }
                        }
                        c.finished((0..PARTICIPANTS).map(is_reached));
                        if let Step::Over(outcome) = c.step() {
                            s.told = Some(outcome);
                        }
                    });
                }
            }
            Step::Over(outcome) if self.told.is_none() => add(&|s, _| s.told = Some(outcome)),
            Step::Over(_) => {}
        }
        all
    }
}

#[test]
fn never_half_never_both() {
    let mut known = HashSet::from([State::first()]);
    let mut open = vec![State::first()];
    let mut ends = HashSet::new();
    while let Some(state) = open.pop() {
        state.check();
        let next = state.next();
        if next.is_empty() {
            // Whoever recovers leaves nothing prepared.
            assert!(!state.parts.contains(&Part::Prepared), "{state:?}");
            ends.insert((state.parts[0], state.told));
        }
        open.extend(next.into_iter().filter(|state| known.insert(state.clone())));
    }
    assert!(known.len() > 1_000, "{} states", known.len());
    let committed = Some(Outcome::Decided(Verdict::Committed));
    assert!(ends.contains(&(Part::Committed, committed)));
    assert!(ends.contains(&(Part::Committed, Some(Outcome::Unknown))));
    assert!(ends.contains(&(Part::RolledBack, Some(Outcome::Decided(Verdict::Aborted)))));
    assert!(ends.contains(&(Part::RolledBack, Some(Outcome::Unknown))));
}

#[test]
fn one_that_does_not_prepare_undoes_all() {
    let mut commit = Commit::new(3);
    commit.prepared([Word::Done, Word::Refused, Word::Lost]);
    assert_eq!(commit.step(), Step::Finish(Verdict::Aborted));
    assert_eq!((0..3).map(|n| commit.is_left(n)).collect::<Vec<_>>(), [true, false, true]);
    commit.finished([true, true, true]);
    assert_eq!(commit.step(), Step::Over(Outcome::Decided(Verdict::Aborted)));
    // It may prepare still.
    assert_eq!((0..3).map(|n| commit.is_left(n)).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn what_shards_say_of_themselves_is_read() {
    let ready = sql::Ready::read("77:0123456789abcdef:true:1:731/5:a:b").unwrap();
    assert_eq!(ready.mark.as_deref(), Some("0123456789abcdef"));
    assert!(ready.may_insert && ready.is_there);
    assert_eq!((ready.server.as_str(), ready.role.as_str()), ("731/5", "a:b"));
    let bare = sql::Ready::read("77::false:0:731/5:bot").unwrap();
    assert_eq!((bare.mark, bare.may_insert, bare.is_there), (None, false, false));
    let prepared = sql::Prepared::read("12:731/5:a:b").unwrap();
    assert_eq!(prepared.xact, Some(12));
    assert_eq!((prepared.server.as_str(), prepared.owner.as_str()), ("731/5", "a:b"));
    assert_eq!(sql::Prepared::read(":731/5:bot").unwrap().xact, None);
    let fit = sql::Fit::read("false:true:a:b").unwrap();
    assert_eq!((fit.has_written, fit.may_finish, fit.role.as_str()), (false, true, "a:b"));
}
