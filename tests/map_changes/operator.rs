//! Who changes the map: in the control tables, on the console, and row by row on the shards.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pgmeridian::demo::cluster::ROLE;
use pgmeridian::mapstore::control::install;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::load::{Load, MOVING_FROM, Tally};
use crate::support::{Proxy, Shards, said};

/// The proxies' own file: FREEZE waits for a moment only.
pub(crate) const CONFIG: &str = "[[users]]\nname = \"bot\"\npassword = \"bot\"\nadmin = true\nhints = true\n\
    [pool]\nsize = 6\nwait_timeout = \"30s\"\n[limits]\ndrain_timeout = \"1s\"\n";

pub(crate) struct Operator {
    control: Client,
    console: Option<Client>,
    /// The shards' URLs, in order.
    urls: Vec<String>,
    proxies: i64,
    changed: usize,
    split: bool,
    placed: i64,
    /// From a change's commit to its use by the last proxy.
    times: Vec<Duration>,
}

impl Operator {
    /// A control database with three of the shards, and the proxies' map.
    pub(crate) async fn install(shards: &Shards) -> (Self, String) {
        let cluster = shards.first();
        cluster
            .execute("postgres", &format!("CREATE DATABASE control OWNER {ROLE}"))
            .await
            .unwrap();
        let url = cluster.database_url("control");
        let mut control = crate::client(&url).await;
        let steps = install::plan(&control).await.unwrap();
        install::install(&mut control, &steps).await.unwrap();
        let urls: Vec<String> = shards.names().map(|name| shards.url(name).to_owned()).collect();
        let mut map = format!(
            "version = 1\ndatabase = \"bots\"\n\
             [keys.tenant]\ncolumns = [\"tenant_id\"]\ntables = {{ tenants = \"id\" }}\n\
             type = \"bigint\"\nstrategy = \"directory\"\ndirectory = {{ otherwise = \"range\" }}\n\
             [control]\nurl = \"{url}\"\npoll = \"1s\"\n"
        );
        for (id, name) in (1..).zip(shards.names()).take(3) {
            let _ = write!(map, "[[shards]]\nid = {id}\nname = \"{name}\"\n");
        }
        let operator = Self {
            control,
            console: None,
            urls,
            proxies: 0,
            changed: 0,
            split: false,
            placed: 0,
            times: Vec::new(),
        };
        for id in 1..=3 {
            operator.add(id).await;
        }
        (operator, map)
    }

    /// The proxies are there, and have said so.
    pub(crate) async fn meet(&mut self, proxies: &[Proxy]) {
        self.proxies = i64::try_from(proxies.len()).unwrap();
        self.console = Some(crate::client(&proxies[0].console_url(ROLE)).await);
        self.used(Instant::now()).await;
        self.times.clear();
    }

    /// A command on the first proxy's console.
    pub(crate) async fn console(
        &self,
        command: &str,
    ) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let messages = self.console.as_ref().unwrap().simple_query(command).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The same, as often as it takes: on a busy machine transactions take their time to end.
    pub(crate) async fn insist(&self, command: &str) {
        let begun = Instant::now();
        while let Err(error) = self.console(command).await {
            let patient = begun.elapsed() < Duration::from_secs(20);
            assert!(patient && said(&error).0 == "55P03", "{command}: {error:?}");
        }
    }

    /// Waits until so many proxies are left, and forgets one that is gone without a word.
    pub(crate) async fn forget(&self, left: i64, gone: u32) {
        let begun = Instant::now();
        loop {
            // What it said last may arrive after it is gone.
            self.forget_one(gone).await;
            let sql = "SELECT name, now() - seen_at < interval '2 s' FROM pgmeridian.proxy";
            let rows = self.control.query(sql, &[]).await.unwrap();
            if rows.len() as i64 == left {
                return;
            }
            let names = rows.iter().map(|row| (row.get(0), row.get(1)));
            let names: Vec<(String, bool)> = names.collect();
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "left, and spoke just now: {names:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Forgets a proxy, by its process number.
    pub(crate) async fn forget_one(&self, gone: u32) {
        let sql = "DELETE FROM pgmeridian.proxy WHERE name LIKE '%/' || $1";
        self.control.execute(sql, &[&gone.to_string()]).await.unwrap();
    }

    pub(crate) fn changed(&self) -> usize {
        self.changed
    }

    pub(crate) fn times(&self) -> String {
        let mut times = self.times.clone();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let most = times.last().copied().unwrap_or_default();
        format!("from commit to the last of three proxies: median {median:?}, at most {most:?}")
    }

    async fn add(&self, id: i16) {
        let (min, url) = (i64::from(id) * 1000, &self.urls[usize::try_from(id).unwrap() - 1]);
        let sql = "INSERT INTO shard_config VALUES ($1, 'USA', 'dc', $2, $3, true, $4, $5)";
        self.control.execute(sql, &[&id, url, &(id == 1), &min, &(min + 999)]).await.unwrap();
    }

    /// Every proxy uses the tables as they are; the time is counted from `since`.
    async fn used(&mut self, since: Instant) {
        let sql = "SELECT count(*) FILTER (WHERE used_version = version), min(used_version), max(version) \
                   FROM pgmeridian.proxy, pgmeridian.map_version";
        loop {
            let row = self.control.query_one(sql, &[]).await.unwrap();
            if row.get::<_, i64>(0) >= self.proxies {
                self.times.push(since.elapsed());
                return;
            }
            let (used, now): (Option<i64>, Option<i64>) = (row.get(1), row.get(2));
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "version {used:?} instead of {now:?}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn change(&mut self, sql: &str) {
        self.control.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        self.used(Instant::now()).await;
        self.changed += 1;
    }

    /// Each kind of change once.
    pub(crate) async fn round(&mut self, load: &Load) {
        // A shard comes, and a tenant that lives there.
        self.add(4).await;
        self.used(Instant::now()).await;
        self.changed += 1;
        self.placed += 1;
        let tenant = MOVING_FROM + self.placed;
        self.change(&format!("INSERT INTO tenant_shard_map VALUES ({tenant}, 4, 'BRA')")).await;
        load.comes(tenant);
        // Half of a range goes to another shard and comes back: nobody lives there.
        let (low, high) = if self.split { (1999, 2000) } else { (1499, 1500) };
        self.split = !self.split;
        self.change(&format!(
            "UPDATE shard_config SET max_tenant_id = CASE shard_id WHEN 1 THEN {low} ELSE max_tenant_id END,
                min_tenant_id = CASE shard_id WHEN 2 THEN {high} ELSE min_tenant_id END"
        ))
        .await;
        // The same server by another name.
        self.change(
            "UPDATE shard_config SET connection_string = CASE WHEN connection_string LIKE '%127.0.0.1%'
                THEN replace(connection_string, '127.0.0.1', 'localhost')
                ELSE replace(connection_string, 'localhost', '127.0.0.1') END WHERE shard_id = 2",
        )
        .await;
        // Somebody moves, and the new one, too: then nobody is left on the shard.
        let other = MOVING_FROM + 1 + self.placed / 2;
        if other != tenant {
            self.moves(other).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.moves(tenant).await;
        self.change("DELETE FROM shard_config WHERE shard_id = 4").await;
    }

    /// Moves a tenant by hand to the next of the shards that stay.
    async fn moves(&mut self, tenant: i64) {
        let sql = "SELECT shard_id FROM tenant_shard_map WHERE tenant_id = $1";
        let from: i16 = self.control.query_one(sql, &[&tenant]).await.unwrap().get(0);
        let to = from % 3 + 1;
        self.insist(&format!("FREEZE {tenant}")).await;
        let url = |shard: i16| self.urls[usize::try_from(shard).unwrap() - 1].clone();
        let (old, new) = (crate::client(&url(from)).await, crate::client(&url(to)).await);
        let copied = "SELECT id, client, body FROM notes WHERE tenant_id = $1";
        let rows = old.query(copied, &[&tenant]).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        let clients: Vec<i32> = rows.iter().map(|row| row.get(1)).collect();
        let bodies: Vec<String> = rows.iter().map(|row| row.get(2)).collect();
        let copy = "INSERT INTO notes (tenant_id, id, client, body)
            SELECT $1, * FROM unnest($2::bigint[], $3::int[], $4::text[])";
        new.execute(copy, &[&tenant, &ids, &clients, &bodies]).await.unwrap();
        self.change(&format!(
            "UPDATE tenant_shard_map SET shard_id = {to} WHERE tenant_id = {tenant}"
        ))
        .await;
        // It is refused while rows are left, and then every proxy uses the new home.
        if !ids.is_empty() {
            let unfreeze = format!("UNFREEZE {tenant}");
            let refused = loop {
                let error = self.console(&unfreeze).await.expect_err("rows are left behind");
                if said(&error).0 != "55P03" {
                    break error;
                }
            };
            assert_eq!(said(&refused).0, "55000", "{refused:?}");
        }
        old.execute("DELETE FROM notes WHERE tenant_id = $1", &[&tenant]).await.unwrap();
        self.insist(&format!("UNFREEZE {tenant}")).await;
    }

    /// All rows that clients know of are where the tables say, and no others are anywhere.
    pub(crate) async fn every_row_is_at_home(&self, shards: &Shards, all: &Tally) {
        for (tenant, rows) in &all.rows {
            let sql = "SELECT coalesce((SELECT shard_id FROM tenant_shard_map WHERE tenant_id = $1),
                (SELECT shard_id FROM shard_config WHERE $1 BETWEEN min_tenant_id AND max_tenant_id))";
            let home: i16 = self.control.query_one(sql, &[tenant]).await.unwrap().get(0);
            for (id, name) in (1_i16..).zip(shards.names()) {
                let direct = shards.direct(name).await;
                let sql = "SELECT count(*) FROM notes WHERE tenant_id = $1";
                let found: i64 = direct.query_one(sql, &[tenant]).await.unwrap().get(0);
                let expected = if id == home { *rows } else { 0 };
                assert_eq!(found, expected, "tenant {tenant} on {name}, at home on {home}");
            }
        }
    }
}
