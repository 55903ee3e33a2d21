//! Decisions of a generator as a list of small numbers: random ones, or a list from before.
//!
//! The first alternative is always the simplest, and what comes after the end of a list is 0, so a failing
//! case shrinks by cutting pieces out of its list and by making numbers smaller, and whatever list comes
//! out of that is a case again.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

pub(crate) struct Choices {
    random: Option<SmallRng>,
    given: Vec<u32>,
    at: usize,
    /// What was decided.
    pub(crate) made: Vec<u32>,
}

impl Choices {
    pub(crate) fn random(seed: u64) -> Self {
        let random = Some(SmallRng::seed_from_u64(seed));
        Self { random, given: Vec::new(), at: 0, made: Vec::new() }
    }

    pub(crate) fn given(list: &[u32]) -> Self {
        Self { random: None, given: list.to_vec(), at: 0, made: Vec::new() }
    }

    /// A number below `n`.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        let n = u32::try_from(n).unwrap_or(1).max(1);
        let number = match &mut self.random {
            Some(random) => random.random_range(0..n),
            None => self.given.get(self.at).copied().unwrap_or(0).min(n - 1),
        };
        self.at += 1;
        self.made.push(number);
        number as usize
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.pick(100) >= 100 - percent
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.pick(of.len())]
    }

    /// An alternative by weight; the first one is the simplest.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut number = self.pick(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if number < *weight {
                return index;
            }
            number -= weight;
        }
        0
    }
}

/// Lists that are simpler than this one, boldest first.
pub(crate) fn simpler(list: &[u32]) -> Vec<Vec<u32>> {
    let mut found = Vec::new();
    let mut size = list.len() / 2;
    while size > 0 {
        for start in (0..list.len()).step_by(size) {
            let end = (start + size).min(list.len());
            let mut without = list.to_vec();
            without.drain(start..end);
            found.push(without);
            if list[start..end].iter().any(|n| *n != 0) {
                let mut zeroed = list.to_vec();
                zeroed[start..end].fill(0);
                found.push(zeroed);
            }
        }
        size = if size > 24 { size / 2 } else { size * 2 / 3 };
    }
    found
}
