//! What botserver says to its database, whole: `workload.sql`, with and without the tenant's key in the
//! texts, in diesel's form of the protocol, over three shards with the shipped `botserver.toml`. Every
//! statement goes where its annotation says or better, answers what one PostgreSQL answers, and leaves the
//! same rows behind. `--nocapture` shows the shares.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![allow(clippy::print_stdout, reason = "the shares are shown to who asks for them")]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod workload;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use client::{Answer, Diesel};
use pgmeridian::app::Server;
use pgmeridian::config::{AuthMethod, Config};
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options, ROLE};
use pgmeridian::map::ShardMap;
use workload::{Profile, Template};
use world::TENANTS;

const SHARDS: [&str; 3] = ["usa-east", "usa-west", "deu"];

/// How often each statement runs for each tenant and profile.
const ROUNDS: u32 = 1;

struct Servers {
    cluster: Cluster,
    proxy: Server,
}

impl Servers {
    async fn start() -> Self {
        let mut options = Options::named("botserver");
        options.databases = SHARDS.map(str::to_owned).to_vec();
        options.hba = vec![format!("host all {ROLE} 127.0.0.1/32 trust")];
        let cluster = Cluster::start(&options).unwrap();
        let now = cluster.connect(DATABASE).await.unwrap();
        let now: String = now.query_one("SELECT now()::text", &[]).await.unwrap().get(0);
        for name in SHARDS.into_iter().chain([DATABASE]) {
            let mut sql = format!("{}\n{}", workload::schema(), world::everywhere());
            for (tenant, home) in TENANTS {
                if home == name || name == DATABASE {
                    sql.push_str(&world::rows(tenant, &now));
                }
            }
            let client = support::connect(&cluster.database_url(name)).await.unwrap();
            client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        let proxy = serve(&cluster, None).await;
        Self { cluster, proxy }
    }

    fn plain(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.cluster.port()))
    }
}

async fn serve(cluster: &Cluster, shard: Option<&str>) -> Server {
    let mut map = include_str!("../../shard-maps/botserver.toml").to_owned();
    for (port, name) in [5501, 5502, 5503].into_iter().zip(SHARDS) {
        let shipped = format!("postgresql://bot:bot@127.0.0.1:{port}/bots");
        assert!(map.contains(&shipped), "{shipped}");
        map = map.replace(&shipped, &cluster.database_url(name));
    }
    let (map, _) = ShardMap::parse("botserver.toml", &map, &|_| None)
        .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.listen.address);
    config.auth.method = AuthMethod::Trust;
    config.shard = shard.map(str::to_owned);
    Server::start(config, map).await.unwrap()
}

/// Where a statement went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Went {
    One,
    Any,
    Many,
    Local,
    Refused,
}

struct Run {
    proxy: Diesel,
    plain: Diesel,
    /// Weights by profile and way, those of the statement divided among its executions.
    shares: BTreeMap<(&'static str, Went), f64>,
    faults: String,
}

impl Run {
    /// One execution of one statement.
    fn statement(&mut self, template: &Template, profile: Profile, tenant: i64, round: u32) {
        let values = |profile| {
            let (sql, names) = template.sql(profile);
            let value = |name: &String| world::value(name, &template.name, tenant, round);
            (sql, names.iter().map(value).collect::<Vec<_>>())
        };
        let (sql, params) = values(profile);
        let mut answer = self.proxy.run(template.named, &sql, &params);
        let promise = template.promise(profile).to_owned();
        let route = self.route();
        let went = if answer.error.is_some() { Went::Refused } else { way(&route) };
        if promise == "needs-hint" {
            let missing = answer.error.as_ref().is_some_and(|(state, _)| state == "23502");
            self.expect(missing, template, profile, "is not refused with 23502", &answer);
            // The session may say whose it is.
            self.proxy.simple(&format!("SET app.tenant_id = '{tenant}'")).unwrap();
            answer = self.proxy.run(template.named, &sql, &params);
            self.proxy.simple("RESET app.tenant_id").unwrap();
        }
        // One PostgreSQL has nobody to fill in the key.
        let fills = template.writes && template.name != "membership_add";
        let (sql, params) = values(if fills { Profile::Keyed } else { profile });
        let plain = self.plain.run(template.named, &sql, &params);
        let same = same(&answer, &plain, sql.contains("ORDER BY") && template.name != "memory_top");
        self.expect(same, template, profile, &format!("differs from {plain:?}"), &answer);

        let home = TENANTS.iter().find(|(own, _)| *own == tenant).unwrap().1;
        let kept = match promise.as_str() {
            "needs-hint" => went == Went::Refused,
            "local" => went != Went::Refused,
            "ref" => matches!(went, Went::One | Went::Any | Went::Local),
            "scatter" => went != Went::Refused,
            both if both.contains('|') => went != Went::Refused,
            // One row by its own id: the map knows where these lead.
            _ => went == Went::One && route.contains(home),
        };
        self.expect(kept, template, profile, &format!("went to {route}, not {promise}"), &answer);
        let name = if profile == Profile::AsIs { "as it is" } else { "with keys" };
        let executions = f64::from(ROUNDS) * TENANTS.len() as f64;
        *self.shares.entry((name, went)).or_default() += f64::from(template.weight) / executions;
    }

    fn route(&mut self) -> String {
        let rows = self.proxy.simple("SHOW pgmeridian.last_route").unwrap();
        rows[0][0].clone().unwrap()
    }

    fn expect(
        &mut self,
        holds: bool,
        template: &Template,
        profile: Profile,
        what: &str,
        answer: &Answer,
    ) {
        if !holds && self.faults.len() < 20_000 {
            let _ = writeln!(self.faults, "{} {profile:?}: {what}: {answer:?}", template.name);
        }
    }
}

fn way(route: &str) -> Went {
    match route.split([':', '(']).next().unwrap_or_default().trim() {
        "one shard" => Went::One,
        "any shard" | "no row can match" => Went::Any,
        "many shards" | "all shards" => Went::Many,
        _ => Went::Local,
    }
}

fn same(one: &Answer, other: &Answer, ordered: bool) -> bool {
    if ordered {
        return one == other;
    }
    let sorted = |answer: &Answer| {
        let mut rows = answer.rows.clone();
        rows.sort();
        rows
    };
    let unordered = sorted(one) == sorted(other);
    unordered && format!("{:?}", one.error) == format!("{:?}", other.error)
}

/// The rows of all tables, without their times, and without ids that nobody chose.
fn rows(client: &mut Diesel, shard: Option<i16>) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "tenants",
        "organizations",
        "users",
        "user_organizations",
        "bots",
        "bot_configuration",
        "user_sessions",
        "message_history",
        "bot_memories",
        "kb_collections",
        "kb_documents",
        "session_kb_associations",
        "system_automations",
        "tasks",
        "usage_analytics",
        "analytics_events",
    ] {
        let by_chance = ["usage_analytics", "user_organizations"].contains(&table);
        let mut found = client
            .simple(&format!(
                "SELECT (SELECT jsonb_object_agg(k, v)::text FROM jsonb_each(to_jsonb(t)) e(k, v)
                   WHERE k !~ '(_at|last_triggered|due_date)$' AND ({} OR k <> 'id')), to_jsonb(t) ->> 'shard_id'
                   FROM {table} t",
                !by_chance
            ))
            .unwrap();
        for row in &mut found {
            // Only what is everywhere is on a shard that its number doesn't name.
            let own = row[1].as_ref().is_none_or(|own| Some(own.parse().unwrap()) == shard);
            if own || shard.is_none() {
                all.push(format!("{table} {}", row[0].as_deref().unwrap_or_default()));
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_workload() {
    let servers = Servers::start().await;
    let mut run = Run {
        proxy: Diesel::connect(servers.proxy.address(), DATABASE),
        plain: Diesel::connect(servers.plain(), DATABASE),
        shares: BTreeMap::new(),
        faults: String::new(),
    };
    an_instance_of_one_shard(&servers).await;
    let templates = workload::templates();
    assert_eq!(templates.len(), 48);
    let mut round = 0;
    for _ in 0..ROUNDS {
        for (tenant, _) in TENANTS {
            for profile in [Profile::AsIs, Profile::Keyed] {
                round += 1;
                for template in &templates {
                    run.statement(template, profile, tenant, round);
                }
            }
        }
    }
    for ((profile, went), weight) in &run.shares {
        println!("{profile:>10} {went:?}: {weight:.0} of 1000");
    }
    assert!(run.faults.is_empty(), "{}", run.faults);
    let wanted = rows(&mut run.plain, None);
    let mut found = Vec::new();
    for (name, shard) in SHARDS.into_iter().zip(1..) {
        found.extend(rows(&mut Diesel::connect(servers.plain(), name), Some(shard)));
    }
    let (mut wanted, mut found) = (wanted, found);
    wanted.sort();
    found.sort();
    assert_eq!(wanted, found);
}

/// `SHARD_ID` in the proxy's environment: its sessions are that shard's, unless they choose another.
async fn an_instance_of_one_shard(servers: &Servers) {
    let own = serve(&servers.cluster, Some("3")).await;
    let mut client = Diesel::connect(own.address(), DATABASE);
    let mut count = |sql: &str| {
        client.simple(sql).unwrap();
        let rows = client.simple("SELECT count(*) FROM system_automations").unwrap();
        rows[0][0].clone().unwrap()
    };
    let here = (count("SELECT 1"), count("DISCARD ALL"), count("RESET pgmeridian.shard"));
    assert_eq!(here, ("4".to_owned(), "4".to_owned(), "4".to_owned()));
    assert_eq!(count("SET pgmeridian.shard = '*'"), "12");
    let sql = "SET pgmeridian.shard = 'deu'";
    assert_eq!(count(sql), "4");
    let elsewhere = client.simple("DELETE FROM tasks WHERE tenant_id = 2").unwrap_err();
    assert!(elsewhere.starts_with("22023"), "{elsewhere}");
}
