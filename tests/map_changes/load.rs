//! Clients that write rows and look for all of them again and again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::{Client, Error, Statement};

use crate::support::said;

/// Those that stay where they are.
pub(crate) const STAYING: [i64; 9] = [1001, 1002, 1003, 2001, 2002, 2003, 3001, 3002, 3003];

/// Tenants from here on are moved.
pub(crate) const MOVING_FROM: i64 = 5000;

/// What the clients share.
#[derive(Default)]
pub(crate) struct Load {
    stopped: AtomicBool,
    /// Tenants that have come while they run.
    more: Mutex<Vec<i64>>,
}

impl Load {
    /// The clients end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// There is one more tenant.
    pub(crate) fn comes(&self, tenant: i64) {
        self.more.lock().unwrap().push(tenant);
    }

    fn tenant(&self, turn: u64) -> i64 {
        let more = self.more.lock().unwrap();
        let all = STAYING.len() + more.len();
        let at = usize::try_from(turn).unwrap() % all;
        STAYING.get(at).copied().unwrap_or_else(|| more[at - STAYING.len()])
    }
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) statements: u64,
    /// Writes that were refused because their key was frozen.
    frozen: u64,
    /// Transactions to be run again.
    again: u64,
    /// Rows that were inserted, by tenant.
    pub(crate) rows: BTreeMap<i64, i64>,
    pub(crate) faults: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.statements += other.statements;
        self.frozen += other.frozen;
        self.again += other.again;
        for (tenant, rows) in other.rows {
            *self.rows.entry(tenant).or_default() += rows;
        }
        self.faults.extend(other.faults);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: i64 = self.rows.values().sum();
        write!(
            f,
            "{} statements, {rows} rows; {} writes of frozen keys refused, {} to be run again",
            self.statements, self.frozen, self.again
        )
    }
}

struct Statements {
    insert: Statement,
    count: Statement,
    update: Statement,
    everywhere: Statement,
}

/// One client's life.
pub(crate) async fn client(load: Arc<Load>, url: String, number: i32) -> Tally {
    let client = crate::client(&url).await;
    let prepare = async |sql: &str| client.prepare(sql).await.unwrap();
    let statements = Statements {
        insert: prepare("INSERT INTO notes (id, tenant_id, client, body) VALUES ($1, $2, $3, 'b')")
            .await,
        count: prepare("SELECT count(*) FROM notes WHERE tenant_id = $1 AND client = $2").await,
        update: prepare("UPDATE notes SET body = $3 WHERE tenant_id = $1 AND client = $2").await,
        everywhere: prepare("SELECT count(*) FROM notes WHERE client = $1").await,
    };
    let mut tally = Tally::default();
    let mut turn = u64::try_from(number).unwrap() * 7919;
    while !load.stopped.load(Ordering::Relaxed) && tally.faults.len() < 5 {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = turn >> 33;
        let tenant = load.tenant(dice / 20);
        let outcome = one(&client, &statements, &mut tally, dice % 20, tenant, number).await;
        tally.statements += 1;
        if let Err(error) = outcome {
            let (state, message) = said(&error);
            match state.as_str() {
                "25006" if tenant >= MOVING_FROM => tally.frozen += 1,
                "40001" => tally.again += 1,
                _ => tally
                    .faults
                    .push(format!("client {number}, {tenant}: {state} {message} {error:?}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tally
}

async fn one(
    client: &Client,
    statements: &Statements,
    tally: &mut Tally,
    dice: u64,
    tenant: i64,
    number: i32,
) -> Result<(), Error> {
    let id = i64::from(number) << 32 | i64::try_from(tally.statements * 2).unwrap();
    let own = tally.rows.get(&tenant).copied().unwrap_or_default();
    let mut expect = |what: &str, found: i64, expected: i64| {
        if found != expected {
            tally.faults.push(format!(
                "client {number}, tenant {tenant}: {what} {found} rows instead of {expected}"
            ));
        }
    };
    match dice {
        0..8 => {
            client.execute(&statements.insert, &[&id, &tenant, &number]).await?;
            *tally.rows.entry(tenant).or_default() += 1;
        }
        8..11 => {
            let both = transaction(client, statements, [id, id + 1], tenant, number).await;
            match both {
                Ok(within) => {
                    expect("a transaction sees", within, own + 1);
                    *tally.rows.entry(tenant).or_default() += 2;
                }
                Err(error) => {
                    client.batch_execute("ROLLBACK").await?;
                    return Err(error);
                }
            }
        }
        11..17 => {
            let row = client.query_one(&statements.count, &[&tenant, &number]).await?;
            expect("a read finds", row.get(0), own);
        }
        17..19 => {
            let body = format!("{dice}");
            let changed = client.execute(&statements.update, &[&tenant, &number, &body]).await?;
            expect("an update changes", i64::try_from(changed).unwrap(), own);
        }
        _ => {
            let row = client.query_one(&statements.everywhere, &[&number]).await?;
            let all: i64 = tally.rows.values().sum();
            let found: i64 = row.get(0);
            if found != all {
                tally.faults.push(format!("client {number}: {found} rows in all instead of {all}"));
            }
        }
    }
    Ok(())
}

/// Two rows, or none; how many there are after the first.
async fn transaction(
    client: &Client,
    statements: &Statements,
    ids: [i64; 2],
    tenant: i64,
    number: i32,
) -> Result<i64, Error> {
    client.batch_execute("BEGIN").await?;
    client.execute(&statements.insert, &[&ids[0], &tenant, &number]).await?;
    let row = client.query_one(&statements.count, &[&tenant, &number]).await?;
    client.execute(&statements.insert, &[&ids[1], &tenant, &number]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(row.get(0))
}
