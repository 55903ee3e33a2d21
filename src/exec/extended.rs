//! The extended query protocol: Parse, Bind, Describe, Execute, Close up to Sync or Flush (a *unit*).
//!
//! A unit is first resolved, message by message, to a list of [`Op`]s (`resolve`; `bind`, `describe` and `execute`
//! for the messages of these names) and the one shard that they go to (`place`); then a connection is taken, the
//! request assembled (`assemble`; statements that this connection has not seen are prepared on the way), sent, and
//! the answers relayed (`send`). What is between two Syncs when a unit ends with Flush is the [`Batch`].
//!
//! Prepared statements are virtual: a client's name leads to a text, the text to a name of ours, and a connection
//! is told it when it first needs it.

pub(super) mod assemble;
mod batch;
mod bind;
mod copy;
mod describe;
mod done;
mod execute;
mod place;
mod portals;
mod prepare;
mod resolve;
mod send;
mod unit;

use super::io::IDLE_BUFFER_BYTES;
use super::{Executor, Failure, Gone, worker};
use crate::error::SqlError;
use crate::sql::class::Class;

pub(super) use self::batch::Batch;
pub(super) use self::portals::{Portal, Portals};
pub(super) use self::unit::{Op, Text, Unit, Which};

impl Executor {
    /// Carries out the extended messages in the first `length` bytes of the client's buffer; they end
    /// with Sync (`sync`) or Flush.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub async fn unit(&mut self, length: usize, sync: bool) -> Result<(), Gone> {
        let mut bytes = std::mem::take(&mut self.batch.buffer);
        bytes.clear();
        bytes.extend_from_slice(self.io.slice(0, length));
        self.io.consume(length);
        self.begin_unit();
        let plain = self.run_plain_unit(&bytes).await;
        let result = match plain {
            Some(result) => result,
            None => match self.run_unit(&bytes, sync).await {
                Ok(Some(rest)) => Box::pin(self.run_rest(&bytes, rest, sync)).await,
                other => other.map(|_| ()),
            },
        };
        if bytes.capacity() > IDLE_BUFFER_BYTES {
            bytes = Vec::new();
        }
        self.batch.buffer = bytes;
        result?;
        if sync {
            self.after_schema_change();
        }
        Ok(())
    }

    fn begin_unit(&mut self) {
        self.asked.clear();
        self.made.clear();
        self.bound.clear();
        self.note_start();
        if self.batch.open_on.is_none() {
            self.follow_world();
        }
    }

    /// Carries out what comes behind a part of a unit.
    async fn run_rest(&mut self, bytes: &[u8], mut rest: usize, sync: bool) -> Result<(), Gone> {
        while let Some(more) = self.run_unit(bytes.get(rest..).unwrap_or_default(), sync).await? {
            rest += more;
        }
        Ok(())
    }

    /// Carries out a unit of any kind, up to what must wait for the answers so far: where that begins.
    async fn run_unit(&mut self, bytes: &[u8], sync: bool) -> Result<Option<usize>, Gone> {
        let mut unit = self.empty_unit();
        if !self.batch.skipping {
            match self.read_if_stale(bytes).await {
                Ok(()) => self.resolve_unit(bytes, &mut unit).await?,
                Err(error) => unit.error = Some(error),
            }
        }
        let sync = sync && unit.rest.is_none();
        let result = if unit.shown {
            Err(Failure::Shown)
        } else if let Some(scatter) = unit.scatter.take() {
            Box::pin(self.run_scatter_unit(&mut unit, *scatter, bytes, sync)).await
        } else if let Some(copy) = unit.copy.take() {
            Box::pin(self.run_copy_unit(&mut unit, *copy, sync)).await
        } else if let Some(tell) = unit.tell.take() {
            Box::pin(self.run_tell_unit(&mut unit, &tell.0, &tell.1, sync)).await
        } else if unit.needs_shard() || (sync && self.batch.open_on.is_some()) {
            self.run_on_shard(&mut unit, bytes, sync).await
        } else {
            self.run_locally(&mut unit, sync);
            Ok(())
        };
        if result.is_err() {
            self.undo_behind(&mut unit);
        }
        let rest = unit.rest.take();
        worker::put_back(unit);
        result.or_else(|failure| self.fail_unit(failure, sync))?;
        Ok(rest)
    }

    pub(super) fn fail_unit(&mut self, failure: Failure, sync: bool) -> Result<(), Gone> {
        match failure {
            Failure::Gone(gone) => return Err(gone),
            Failure::Error(error) => self.report(&error),
            Failure::Shown => {}
        }
        self.after_failure(sync);
        Ok(())
    }

    /// One of the thread's units, as the messages so far leave it.
    fn empty_unit(&self) -> Box<Unit> {
        let mut unit = worker::take_unit();
        unit.failed =
            self.batch.failed.unwrap_or_else(|| self.session.transaction.status() == b'E');
        unit.after.clone_from(&self.batch.after);
        unit.block = self.batch.block.unwrap_or_else(|| self.session.transaction.is_open());
        unit
    }

    async fn read_if_stale(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        if !self.world.catalog_known && self.unit_stands_on_schema(bytes) {
            Box::pin(self.refresh_world()).await?;
        }
        let own = self.session.schema_stale;
        if (self.stale || own) && self.unit_stands_on_schema(bytes) {
            if self.stale {
                self.read_stale().await?;
            }
            if self.is_behind(&Class::Query) && !self.batch.is_open() {
                Box::pin(self.read_own_schema()).await?;
            }
        }
        Ok(())
    }

    /// An error ended the unit early.
    fn after_failure(&mut self, sync: bool) {
        let open = self.batch.open_on;
        self.batch = Batch { skipping: !sync, ..Batch::default() };
        self.portals.retain(|portal| !matches!(portal, Portal::Scatter));
        if let Some(at) = self.held.iter().position(|held| Some(held.shard) == open) {
            // What came before in the pipeline must not stay.
            self.lose(at);
        }
        if sync {
            self.ready();
        }
    }

    /// A unit that is said to all shards of the transaction: what was parsed and bound before it, and
    /// closed after it, is ours.
    async fn run_tell_unit(
        &mut self,
        unit: &mut Unit,
        class: &Class,
        sql: &str,
        sync: bool,
    ) -> Result<(), Failure> {
        if let Some(Op::Inject(before)) = unit.ops.first_mut() {
            self.io.outbox.append(before);
        }
        self.tell_enlisted(class, sql).await?;
        self.run_locally(unit, sync);
        Ok(())
    }

    /// Nothing of it concerns a shard.
    fn run_locally(&mut self, unit: &mut Unit, sync: bool) {
        for op in &unit.ops {
            if let Op::Inject(bytes) = op {
                self.io.outbox.extend_from_slice(bytes);
            }
        }
        if self.batch.is_open() {
            self.batch.effects.extend(unit.effects.drain(..).map(|(_, class)| class));
        }
        if let Some(error) = &unit.error {
            self.report(error);
            self.batch.skipping = true;
            self.batch.ours |= self.batch.is_open();
        }
        if sync {
            self.batch.skipping = false;
            self.batch.read = false;
            if !self.session.transaction.is_open() {
                self.portals.clear();
            }
            self.ready();
        }
    }
}
