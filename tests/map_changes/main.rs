//! The map changes under load: 64 clients over three proxies that follow one control database, while shards
//! come and go, ranges are split, a URL changes, new tenants are placed and others moved by hand under
//! FREEZE. No statement fails but writes of a frozen key; no row is lost, doubled or misplaced. And one tenant that
//! moves, read in every way at each step.
//!
//! `MAP_CHANGES=100 cargo test --release --test map_changes -- --nocapture` makes so many changes and shows
//! how long the proxies took to follow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are shown to who asks for them")]

#[path = "../support/mod.rs"]
mod support;

mod load;
mod moving;
mod operator;

use std::sync::Arc;
use std::time::Duration;

use load::{Load, Tally};
use operator::Operator;
use support::{Proxy, Shards, connect, said};

const TABLES: &str = "
    CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE notes (id bigint, tenant_id bigint NOT NULL, client int NOT NULL, body text,
        PRIMARY KEY (tenant_id, id));
    CREATE INDEX ON notes (client);
    CREATE FUNCTION write_one(id bigint) RETURNS bigint LANGUAGE sql AS 'SELECT id';";

/// When somebody asks for more changes.
const CLIENTS: i32 = 64;

/// As many as a busy machine with debugging symbols bears.
const CLIENTS_FEW: i32 = 16;

/// Changes when nobody asks for more: each kind once.
const CHANGES: usize = 6;

async fn proxies(shards: &Shards, map: &str, config: &str) -> Vec<Proxy> {
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Proxy::start_with(shards, map, config).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_changes() {
    let shards = Shards::databases(4);
    shards.run_on_all(TABLES).await;
    let (mut operator, map) = Operator::install(&shards).await;
    a_frozen_key_is_read_and_not_written(&shards, &mut operator, &map).await;
    shards.run_on_all("TRUNCATE tenants, notes").await;
    under_load(&shards, &mut operator, &map).await;
}

async fn under_load(shards: &Shards, operator: &mut Operator, map: &str) {
    let asked = std::env::var("MAP_CHANGES").ok().map(|count| count.parse().unwrap());
    let (changes, count) = asked.map_or((CHANGES, CLIENTS_FEW), |changes| (changes, CLIENTS));
    let proxies = proxies(shards, map, operator::CONFIG).await;
    operator.meet(&proxies).await;
    let load = Arc::new(Load::default());
    let mut clients = Vec::new();
    for number in 0..count {
        let url = proxies[number as usize % proxies.len()].url();
        clients.push(tokio::spawn(load::client(Arc::clone(&load), url, number)));
    }
    while operator.changed() < changes {
        operator.round(&load).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    load.stop();
    let mut all = Tally::default();
    for client in clients {
        all.add(client.await.unwrap());
    }
    println!("{} changes; {all}", operator.changed());
    println!("{}", operator.times());
    assert!(all.faults.is_empty(), "{}", all.faults.join("\n"));
    assert!(all.statements > 500, "{all}");
    operator.every_row_is_at_home(shards, &all).await;
}

async fn a_frozen_key_is_read_and_not_written(shards: &Shards, operator: &mut Operator, map: &str) {
    let mut proxies = proxies(shards, map, operator::CONFIG).await;
    operator.meet(&proxies).await;
    let (mut one, other) = (proxies[0].connect().await, proxies[1].connect().await);
    let insert = "INSERT INTO notes VALUES (1, 1001, 0, 'x')";
    one.batch_execute(insert).await.unwrap();
    // Who has written before holds the freeze up.
    let open = one.transaction().await.unwrap();
    open.batch_execute("INSERT INTO notes VALUES (2, 1001, 0, 'y')").await.unwrap();
    let error = operator.console("FREEZE 1001").await.expect_err("a transaction is open");
    assert_eq!(said(&error).0, "55P03", "{error:?}");
    open.commit().await.unwrap();
    operator.insist("FREEZE 'tenant=1001'").await;
    for (sql, state) in [
        ("INSERT INTO notes VALUES (3, 1001, 0, 'z')", "25006"),
        ("INSERT INTO notes VALUES (3, 1002, 0, 'z'), (3, 1001, 0, 'z')", "25006"),
        ("INSERT INTO notes SELECT 3, 1001, 0, 'z'", "25006"),
        ("UPDATE notes SET body = 'z' WHERE tenant_id = 1001", "25006"),
        ("UPDATE notes SET body = 'z' WHERE tenant_id IN (1001, 1002)", "25006"),
        ("DELETE FROM tenants WHERE id = 1001", "25006"),
        ("TRUNCATE notes", "25006"),
        ("/* pgmeridian: shard=usa-east */ UPDATE notes SET body = 'z'", "25006"),
        ("/* pgmeridian: shard=usa-east */ DO 'BEGIN END'", "25006"),
        ("/* pgmeridian: shard=usa-east */ CALL write(1001)", "25006"),
        ("SELECT write_one(id) FROM notes WHERE tenant_id = 1001", "25006"),
        ("SELECT write_one(id) FROM notes WHERE tenant_id = 1002", ""),
        ("/* pgmeridian: shard=usa-west */ DO 'BEGIN END'", ""),
        ("UPDATE notes SET body = 'z' WHERE tenant_id = 1002", ""),
        ("INSERT INTO notes VALUES (1, 1002, 0, 'x')", ""),
        ("SELECT * FROM notes WHERE tenant_id = 1001", ""),
        ("SELECT * FROM notes WHERE tenant_id = 1001 FOR UPDATE", ""),
        ("SELECT count(*) FROM notes", ""),
    ] {
        let answer = other.batch_execute(sql).await;
        let found = answer.err().map(|error| said(&error)).unwrap_or_default();
        assert_eq!(found.0, state, "{sql}: {found:?}");
    }
    let frozen = operator.console("SHOW FREEZES").await.unwrap();
    let row: Vec<_> = [0, 1, 4, 5, 6].map(|at| frozen[0][at].clone().unwrap_or_default()).into();
    assert_eq!(row, ["tenant", "1001", "3", "", "usa-east"], "{frozen:?}");
    // A proxy that starts later knows of it, with the control database away, too; a reload changes nothing.
    proxies[2].signal("HUP");
    // Who ends properly is not waited for; who is gone is named.
    let mut ending = Vec::new();
    for signal in ["TERM", "INT"] {
        let late = Proxy::start_with(shards, map, operator::CONFIG).await;
        let client = late.connect().await;
        let error = client.batch_execute(insert).await.expect_err("a frozen key");
        assert_eq!(
            said(&error),
            ("25006".to_owned(), "cannot execute INSERT while tenant 1001 is frozen".to_owned())
        );
        late.signal(signal);
        ending.push(late);
    }
    let gone = proxies[2].id();
    proxies.truncate(2);
    operator.forget(2, gone).await;
    operator.insist("UNFREEZE 1001").await;
    other.batch_execute("INSERT INTO notes VALUES (3, 1001, 0, 'z')").await.unwrap();
    assert!(operator.console("SHOW FREEZES").await.unwrap().is_empty());
    let error = operator.console("UNFREEZE 1001").await.expect_err("it is not frozen");
    assert_eq!(said(&error), ("22023".to_owned(), "tenant 1001 is not frozen".to_owned()));
    for proxy in &proxies {
        operator.forget_one(proxy.id()).await;
    }
}

/// A client of a proxy.
async fn client(url: &str) -> tokio_postgres::Client {
    connect(url).await.unwrap_or_else(|error| panic!("{error:?}"))
}
