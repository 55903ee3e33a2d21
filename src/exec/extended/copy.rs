//! COPY of a query, or of a table, TO STDOUT: it has no route of its own, and what carries it out for the simple
//! protocol does so here, between the answer to Bind and `ReadyForQuery`.

use super::resolve::Obstacle;
use super::{Portal, Unit};
use crate::error::SqlError;
use crate::exec::strings::Piece;
use crate::exec::{Executor, Failure};
use crate::sql::class::Class;
use crate::wire;
use crate::wire::frontend::BindView;

/// A portal of COPY TO STDOUT, with what was asked of it.
pub(super) struct CopyUnit {
    text: Vec<u8>,
    /// What planning said of it.
    refusal: SqlError,
    /// What the client is told before its data.
    prefix: Vec<u8>,
    executed: bool,
}

impl CopyUnit {
    /// It has no columns.
    pub(super) fn describe(&mut self) {
        wire::backend::no_data(&mut self.prefix);
    }

    pub(super) fn execute(&mut self) {
        self.executed = true;
    }

    pub(super) fn is_executed(&self) -> bool {
        self.executed
    }
}

/// COPY … TO STDOUT.
pub(super) fn copies_out(class: &Class) -> bool {
    matches!(class, Class::Copy { from: false, client: true, .. })
}

impl Executor {
    /// Bind of a COPY TO STDOUT that can't be passed on as it is.
    pub(super) fn bind_copy_out(
        &mut self,
        view: &BindView<'_>,
        refusal: SqlError,
        unit: &mut Unit,
    ) -> Result<(), Obstacle> {
        let mut prefix = self.told_before(unit)?;
        wire::backend::bind_complete(&mut prefix);
        let text = self.statement(view.statement)?.sql.to_vec();
        self.portals.insert(view.portal, Portal::Scatter);
        unit.ops.clear();
        unit.copy = Some(Box::new(CopyUnit { text, refusal, prefix, executed: false }));
        Ok(())
    }

    /// A unit that is one COPY TO STDOUT.
    pub(super) async fn run_copy_unit(
        &mut self,
        unit: &mut Unit,
        copy: CopyUnit,
        sync: bool,
    ) -> Result<(), Failure> {
        self.io.outbox.extend_from_slice(&copy.prefix);
        if let Some(error) = unit.error.take() {
            return Err(error.into());
        }
        if copy.executed {
            self.responses.begin(true);
            // As a piece of something that goes on, it is not followed by `ReadyForQuery`.
            self.piece = Some(Piece::first());
            let result = Box::pin(self.instead(&copy.text, copy.refusal)).await;
            self.piece = None;
            result?;
            if self.responses.failed() {
                return Err(Failure::Shown);
            }
        }
        self.end_alone(unit, sync, true);
        Ok(())
    }
}
