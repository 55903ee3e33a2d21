//! The function call protocol (manual, "Function Call"): libpq's `PQfn`, by which large objects are read
//! and written.
//!
//! A call names its function by OID and nothing else. Large objects are tables' neighbours that no map
//! places: on a map of several shards they live on the default shard, and the functions that handle them
//! go there. Any other function may read tables: it goes where the session says, or to the only shard.

use super::control::aborted;
use super::local::SessionScopes;
use super::pins::{Pin, Pins};
use super::planner::Scopes as _;
use super::{Executor, Failure, Gone};
use crate::error::{SqlError, SqlState};
use crate::map::ShardId;
use crate::plan::{Answer, Plan, Route};
use crate::session::responses::StepKind;

/// `lo_create`, `lo_import`, `lo_open`, `lo_close`, `loread`, `lowrite`, `lo_lseek`, `lo_creat`, `lo_tell`,
/// `lo_unlink`, `lo_import`, `lo_export`, `lo_truncate`, and those with 64 bits (`pg_proc.dat`).
const LARGE_OBJECTS: [u32; 16] =
    [715, 764, 765, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172];

impl Executor {
    /// Carries out a `FunctionCall` message, the first `length` bytes of the client's buffer.
    ///
    /// # Errors
    ///
    /// The client is gone.
    pub async fn function_call(&mut self, length: usize) -> Result<(), Gone> {
        if self.batch.is_skipping() {
            self.io.consume(length);
            return Ok(());
        }
        if self.batch.is_open() {
            let error = SqlError::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a function call cannot stand in an unfinished pipeline",
            );
            self.refuse(length, &error.hint("Send a Sync before it."));
            return Ok(());
        }
        self.follow_world();
        self.note_start();
        let frame = self.io.slice(0, length).to_vec();
        self.io.consume(length);
        let result = self.call(&frame).await;
        self.end_request(result)
    }

    async fn call(&mut self, frame: &[u8]) -> Result<(), Failure> {
        if self.session.transaction.status() == b'E' {
            return Err(aborted().into());
        }
        let oid = frame.get(5..9).and_then(|bytes| bytes.first_chunk()).copied();
        let oid = u32::from_be_bytes(oid.ok_or_else(|| {
            SqlError::new(SqlState::PROTOCOL_VIOLATION, "insufficient data left in message")
        })?);
        let large_object = LARGE_OBJECTS.contains(&oid);
        let plan = Plan {
            route: Route::One(self.call_shard(oid, large_object)?),
            answer: Answer::Relay,
            rewritten: None,
            taints: !large_object,
            writes: true,
            changes_schema: false,
            settings: None,
            names_temporary: false,
            crossing: None,
            once: false,
        };
        self.refuse_barred()?;
        let shard = self.one_shard(&plan)?;
        if self.writes_apart(shard, true) {
            Box::pin(self.begin_writing(shard)).await?;
        }
        self.note_route(&plan);
        self.leaving = Pins::of(Pin::OpaqueCode);
        let at = self.acquire(shard).await?;
        self.may_write(at, plan.writes)?;
        self.start(at).await?;
        self.request.extend_from_slice(frame);
        // It is answered as a Query is: whatever comes, up to ReadyForQuery.
        self.responses.expect(StepKind::Query, false);
        self.exchange(at).await?;
        self.finish(at, plan.taints, false, &[], self.responses.failed());
        self.session.transaction.note(shard, plan.writes, plan.taints);
        self.close_trace();
        Ok(())
    }

    fn call_shard(&self, oid: u32, large_object: bool) -> Result<ShardId, SqlError> {
        let refused = |why: &str| {
            let message = format!("a call of function {oid} by its OID is not supported");
            SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .detail(why.to_owned())
                .hint("Call the function with SELECT.")
        };
        let scopes = SessionScopes(&self.session);
        let scope = scopes.scope(&self.world, None)?;
        if scope.session_key.is_some() && self.world.map.sole_key().is_none() {
            return Err(refused("The session is restricted to a key, the function is not."));
        }
        let map = &self.world.map;
        let only = map.is_one_server() || large_object;
        let shard = scope.session_shard.or_else(|| only.then(|| map.default_shard()));
        shard.ok_or_else(|| refused("It may read tables of several shards."))
    }
}
