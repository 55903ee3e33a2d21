//! Errors of a shard in the client's own words: the names of its statements, and positions in its text.
//! Nothing else of an error is changed.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

/// A prepared statement as the shard knows it, and as the client does.
#[derive(Debug, PartialEq, Eq)]
pub struct Alias {
    /// Our name for it.
    pub ours: Vec<u8>,
    /// The client's.
    pub theirs: Vec<u8>,
}

/// How errors are put into the client's own words: names, and positions where the shard was sent another
/// text.
#[derive(Debug, Default)]
pub(super) struct Wording {
    aliases: SmallVec<[Arc<Alias>; 2]>,
    /// Positions (1-based, in characters) beyond the first number are moved by the second.
    shifts: Vec<(u32, i64)>,
    /// What a statement behind EXECUTE says of positions.
    execution: Option<Execution>,
}

/// A statement that EXECUTE executes: PostgreSQL counts positions in the text that it was prepared by.
#[derive(Debug)]
struct Execution {
    /// Positions here are EXECUTE's own.
    own: Range<u32>,
    /// Characters before the statement in the text that it was prepared by.
    before: u32,
}

impl Wording {
    pub(super) fn clear(&mut self) {
        self.aliases.clear();
        self.shifts.clear();
        self.execution = None;
    }

    /// Positions outside of `own` (in the client's text) are those in a statement that stands behind so many
    /// characters.
    pub(super) fn executes(&mut self, own: Range<u32>, before: u32) {
        self.execution = Some(Execution { own, before });
    }

    /// Errors that name a statement shall name it as the client does.
    pub(super) fn known_as(&mut self, alias: &Arc<Alias>) {
        if !self.aliases.iter().any(|known| Arc::ptr_eq(known, alias)) {
            self.aliases.push(Arc::clone(alias));
        }
    }

    /// Positions (in characters) beyond `after` are moved by `by`.
    pub(super) fn shift_positions(&mut self, after: u32, by: i64) {
        self.shifts.push((after, by));
    }

    /// The fields of an error (manual, "Error and Notice Message Fields"), reworded.
    pub(super) fn of(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len());
        // What is executed was read before; only EXECUTE itself may not be.
        let unread = body.split(|byte| *byte == 0).any(|field| field == b"Rscanner_yyerror");
        let execution = self.execution.as_ref().filter(|_| !unread);
        for field in body.split(|byte| *byte == 0) {
            match field.split_first() {
                None => {}
                Some((b'P', position)) => {
                    out.push(b'P');
                    self.position(position, execution, &mut out);
                    out.push(0);
                }
                Some(_) => {
                    self.names(field, &mut out);
                    out.push(0);
                }
            }
        }
        out.push(0);
        out
    }

    fn position(&self, digits: &[u8], execution: Option<&Execution>, out: &mut Vec<u8>) {
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u32>().ok());
        let Some(sent) = number else { return out.extend_from_slice(digits) };
        let moved = self.shifts.iter().filter(|(after, _)| sent > *after).map(|(_, by)| by);
        let position = i64::from(sent) + moved.sum::<i64>();
        let position = match execution {
            Some(Execution { own, before })
                if !u32::try_from(position).is_ok_and(|position| own.contains(&position)) =>
            {
                i64::from(sent) + i64::from(*before)
            }
            _ => position,
        };
        out.extend_from_slice(position.max(1).to_string().as_bytes());
    }

    fn names(&self, mut text: &[u8], out: &mut Vec<u8>) {
        while let Some(at) = memchr::memmem::find(text, OUR_NAMES) {
            let (before, rest) = text.split_at(at);
            let digits = rest.iter().skip(OUR_NAMES.len()).take_while(|c| c.is_ascii_digit());
            let (name, after) = rest.split_at(OUR_NAMES.len() + digits.count());
            let alias = self.aliases.iter().find(|alias| alias.ours == name);
            out.extend_from_slice(before);
            out.extend_from_slice(alias.map_or(name, |alias| &alias.theirs));
            text = after;
        }
        out.extend_from_slice(text);
    }
}

/// With this every name begins that statements are given on shards.
pub const OUR_NAMES: &[u8] = b"pgmeridian_";
