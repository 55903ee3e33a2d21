//! `limits.query_timeout` and `limits.idle_in_transaction_timeout`.
//!
//! No statement sets a timer. A coarse clock goes on every few milliseconds (never if there is no limit);
//! a statement is stamped with it when it begins and when it is done, and who carries too old a stamp is
//! looked for with every tick. A limit is so kept to a tenth, or to ten milliseconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use super::clients::Activity;
use crate::config::Limits;
use crate::error::{SqlError, SqlState};

/// Ends what takes too long, until it is dropped; at once if there is no limit.
///
/// # Cancel safety
///
/// Dropped, nothing is ended any more.
pub async fn watch(shared: Arc<Shared>) {
    let Some(period) = period(&shared.config.limits) else { return };
    let start = Instant::now();
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // Never the stamp of a client that has just come.
        let now = start.elapsed().as_millis() as u64 + 1;
        shared.clients.set_clock(now);
        look(&shared, now);
    }
}

fn period(limits: &Limits) -> Option<Duration> {
    let both = [limits.query_timeout, limits.idle_in_transaction_timeout];
    let shortest = both.into_iter().filter(|limit| !limit.is_zero()).min()?;
    Some((shortest / 10).clamp(Duration::from_millis(10), Duration::from_secs(1)))
}

fn look(shared: &Arc<Shared>, now: u64) {
    let limits = &shared.config.limits;
    let over =
        |elapsed: u64, limit: Duration| !limit.is_zero() && u128::from(elapsed) > limit.as_millis();
    let mut idlers = false;
    shared.clients.each(|client| {
        let elapsed = client.active_for(now);
        match client.activity() {
            Activity::Active if over(elapsed, limits.query_timeout) && !client.is_overdue() => {
                client.expire();
                let (shared, client) = (Arc::clone(shared), Arc::clone(client));
                tokio::spawn(async move {
                    // What neither runs nor waits is about to: it is looked at again.
                    if !shared.cancel(client.key).await {
                        client.forgive();
                    }
                });
            }
            Activity::IdleInTransaction | Activity::IdleInFailedTransaction
                if over(elapsed, limits.idle_in_transaction_timeout) =>
            {
                client.expire();
                idlers = true;
            }
            _ => {}
        }
    });
    if idlers {
        shared.drain.notify_waiters();
    }
}

/// What the client of a statement is told that took too long.
pub(super) fn query_timeout(limits: &Limits) -> SqlError {
    SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to query timeout")
        .detail(format!("It took longer than limits.query_timeout ({:?}).", limits.query_timeout))
}

/// What the client of an idle transaction is told, in PostgreSQL's words (`ProcessInterrupts`).
pub fn idle_in_transaction() -> SqlError {
    SqlError::new(
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        "terminating connection due to idle-in-transaction timeout",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_only_for_limits() {
        let check = |query: u64, idle: u64, expect: Option<u64>| {
            let limits = Limits {
                query_timeout: Duration::from_millis(query),
                idle_in_transaction_timeout: Duration::from_millis(idle),
                ..Limits::default()
            };
            assert_eq!(period(&limits), expect.map(Duration::from_millis));
        };
        check(0, 0, None);
        check(2_000, 0, Some(200));
        check(2_000, 50, Some(10));
        check(0, 600_000, Some(1_000));
    }
}
