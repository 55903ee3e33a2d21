//! A unit, resolved: [`Unit`], and the [`Op`]s that it consists of.

use std::ops::Range;

use super::copy::CopyUnit;
use super::done::Done;
use crate::datum::Oid;
use crate::error::SqlError;
use crate::exec::again::Repeat;
use crate::exec::scatter::ScatterBind;
use crate::exec::statements::Known;
use crate::map::ShardId;
use crate::session::responses::StepKind;
use crate::session::settings::SessionSettings;
use crate::sql::class::Class;

/// A unit, resolved.
#[derive(Default)]
pub(in crate::exec) struct Unit {
    pub(in crate::exec) ops: Vec<Op>,
    /// Where it must go.
    pub(super) shard: Option<ShardId>,
    /// Where it may go if nothing else says.
    pub(super) describe_shard: Option<ShardId>,
    /// Something is executed or bound, not only parsed and described.
    pub(super) executes: bool,
    /// An Execute that waits for the client's data.
    pub(super) copies: bool,
    /// The transaction is failed, as far as the messages were read.
    pub(super) failed: bool,
    /// In a transaction block, as far as the messages were read.
    pub(super) block: bool,
    /// A query is parsed.
    pub(super) read: bool,
    /// The message that is read is the last one before Sync.
    pub(super) last: bool,
    /// Executes so far.
    pub(super) executions: u32,
    pub(super) writes: bool,
    pub(super) taints: bool,
    pub(super) changes_schema: bool,
    /// On what evidence what is executed may be sent again.
    pub(super) repeat: Repeat,
    /// The settings once the effects have come, if there are any.
    pub(super) after: Option<Box<SessionSettings>>,
    /// What concerns the session, and how many Executes came before it.
    pub(super) effects: Vec<(u32, Class)>,
    pub(super) scatter: Option<Box<ScatterBind>>,
    /// COPY TO STDOUT of what the proxy reads.
    pub(super) copy: Option<Box<CopyUnit>>,
    /// To be said to all shards of the transaction; nothing for a shard comes before it.
    pub(super) tell: Option<Box<(Class, String)>>,
    pub(in crate::exec) unnamed_parsed: bool,
    /// What was done to the session already behind something that a shard has to answer, with the number of
    /// ops before it.
    pub(super) done: Vec<(usize, Done)>,
    /// How many steps precede each of the ops, where something of that may have to be undone.
    pub(super) steps: Vec<u32>,
    /// The client's names of the statements that are described, in order.
    pub(super) described: Vec<Vec<u8>>,
    /// Where the messages begin that come when these have been answered.
    pub(super) rest: Option<usize>,
    pub(in crate::exec) error: Option<SqlError>,
    /// An error ended it that the client has been shown.
    pub(super) shown: bool,
}

impl Unit {
    /// Forgets everything but the room that it has.
    pub(in crate::exec) fn clear(&mut self) {
        let mut ops = std::mem::take(&mut self.ops);
        ops.clear();
        *self = Self { ops, ..Self::default() };
    }

    pub(in crate::exec) fn inject(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Op::Inject(last)) = self.ops.last_mut() {
            write(last);
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.ops.push(Op::Inject(bytes));
    }

    pub(super) fn needs_shard(&self) -> bool {
        self.ops.iter().any(|op| !matches!(op, Op::Inject(_)))
    }
}

/// One thing to do for a unit.
pub(in crate::exec) enum Op {
    /// Bytes of our own.
    Inject(Vec<u8>),
    /// The client's Parse of the unnamed statement, as it is.
    ParseUnnamed(Range<usize>),
    /// The client's Parse of a named statement.
    ParseNamed { client: Vec<u8>, known: Known },
    /// A statement that one of the next needs.
    Ensure(Known),
    /// The client's Bind.
    Bind { raw: Range<usize>, which: Which },
    /// The client's Describe of a statement.
    DescribeStatement(Which),
    /// A message that goes as it is.
    Raw(Range<usize>, StepKind),
    /// A statement of the client that the proxy watches over: only its Execute is answered.
    Run(String),
    /// A statement of ours behind it.
    RunBehind(String),
    /// PREPARE was carried out under this name of the client's: its parameters are asked for, and the name
    /// given back.
    Learn(Vec<u8>),
}

/// Which statement a message is about, as the connection knows it.
pub(in crate::exec) enum Which {
    /// The unnamed one, parsed in this unit.
    Unnamed,
    /// A prepared one.
    Known(Known),
    /// A text of ours: the unnamed one is then this.
    Text(Text),
}

/// A text that differs from the client's by a name.
pub(in crate::exec) struct Text {
    pub(in crate::exec) sql: String,
    /// The parameters' types.
    pub(in crate::exec) oids: Vec<Oid>,
    /// Error positions beyond the first are moved by the second.
    pub(in crate::exec) shift: (u32, i64),
}
