//! The tour: a chapter per strategy, each with its map and the same data placed by it.
//!
//! A step is a statement, what it is there to show, and how it must go. All of them are really run; one
//! that goes otherwise is marked and makes the tour fail.

use serde_json::Value;
use tokio_postgres::Client;

use super::maps::{self, Shard};
use super::{DemoError, Outcome, Stage, ask, sample};

/// How a step must go.
#[derive(Clone, Copy)]
enum Expect {
    /// Answered, with this kind of route (contract §4: one, many, all, any, none).
    Route(&'static str),
    /// Refused, with this SQLSTATE.
    Refused(&'static str),
    /// Answered as text by the proxy.
    Text,
}
use Expect::{Refused, Route, Text};

struct Step {
    say: &'static str,
    sql: &'static str,
    expect: Expect,
}

struct Chapter {
    title: &'static str,
    remark: &'static str,
    map: fn(&[Shard]) -> String,
    steps: &'static [Step],
}

const fn step(say: &'static str, sql: &'static str, expect: Expect) -> Step {
    Step { say, sql, expect }
}

const CHAPTERS: [Chapter; 4] = [
    Chapter {
        title: "hash",
        remark: "A tenant's shard is its number modulo three. Nothing is stored about single tenants.",
        map: maps::hash,
        steps: &[
            step(
                "The key stands in the statement, so one shard answers; its bytes are relayed.",
                "SELECT id, name, region_code FROM tenants WHERE id = 42",
                Route("one"),
            ),
            step(
                "Tables joined on the key live together.",
                "SELECT u.username, s.title, s.message_count FROM user_sessions s \
                 JOIN users u ON u.id = s.user_id AND u.tenant_id = s.tenant_id \
                 WHERE s.tenant_id = 42 ORDER BY s.created_at DESC LIMIT 3",
                Route("one"),
            ),
            step(
                "Aggregates within a tenant are PostgreSQL's own work.",
                "SELECT role, count(*) AS messages, avg(token_count)::numeric(5,1) AS tokens \
                 FROM message_history WHERE tenant_id = 42 GROUP BY role ORDER BY role",
                Route("one"),
            ),
            step(
                "Three keys on two shards: both are asked at once, their rows streamed.",
                "SELECT id, name FROM tenants WHERE id IN (3, 5, 42)",
                Route("many"),
            ),
            step(
                "No key: every shard is asked. Each sorts its own rows, the proxy merges them.",
                "SELECT tenant_id, title FROM tasks WHERE status = 2 ORDER BY tenant_id DESC LIMIT 3",
                Route("all"),
            ),
            step(
                "Sums over all shards are exact: the shards work out their parts, PostgreSQL finishes them.",
                "SELECT t.region_code, count(*) AS messages, avg(m.token_count)::numeric(5,1) AS tokens \
                 FROM message_history m JOIN tenants t ON t.id = m.tenant_id \
                 GROUP BY t.region_code ORDER BY messages DESC, t.region_code",
                Route("all"),
            ),
            step(
                "So is what else PostgreSQL can say: a window over tenants of different shards.",
                "SELECT name, plan_tier, rank() OVER (PARTITION BY plan_tier ORDER BY id DESC) AS rank \
                 FROM tenants WHERE is_active ORDER BY rank, plan_tier LIMIT 3",
                Route("all"),
            ),
            step(
                "A reference table is the same everywhere.",
                "SELECT name, seats_max FROM plans WHERE plan_tier = 1",
                Route("any"),
            ),
            step(
                "A write goes where its key goes, and comes back with RETURNING.",
                "INSERT INTO tasks (id, tenant_id, region_code, title) VALUES \
                 ('00000000-0000-4000-8000-00000000feed', 42, 'CAN', 'Try the tour') \
                 RETURNING tenant_id, title, created_at IS NOT NULL AS stamped",
                Route("one"),
            ),
            step(
                "A session of one tenant sees that tenant only, whatever it asks.",
                "SET pgmeridian.key = '42'",
                Text,
            ),
            step("", "SELECT count(*) AS users FROM users", Route("one")),
            step("", "SELECT count(*) AS users FROM users WHERE tenant_id = 43", Refused("22023")),
            step("", "RESET pgmeridian.key", Text),
            step(
                "The route, with its reasons, without running the statement.",
                "EXPLAIN (ROUTE) SELECT title FROM tasks WHERE tenant_id = 42 AND status = 0",
                Text,
            ),
            step(
                "What can't be decided exactly is refused by name: this would leave rows where the map \
                 does not look for them.",
                "UPDATE tasks SET tenant_id = 43 WHERE tenant_id = 42",
                Refused("0A000"),
            ),
            step(
                "So is a row without its key.",
                "INSERT INTO tasks (id, region_code, title) VALUES \
                 ('00000000-0000-4000-8000-00000000beef', 'USA', 'Whose?')",
                Refused("23502"),
            ),
        ],
    },
    Chapter {
        title: "range",
        remark: "Tenants 1 to 20 on the first shard, 21 to 40 on the second, the rest on the third.",
        map: maps::range,
        steps: &[
            step("One key, one range.", "SELECT id, name FROM tenants WHERE id = 20", Route("one")),
            step(
                "An interval goes to the shards whose ranges it meets.",
                "SELECT id, name FROM tenants WHERE id BETWEEN 15 AND 25",
                Route("many"),
            ),
            step(
                "An open one, too.",
                "SELECT id, name FROM tenants WHERE id > 40 AND plan_tier = 2",
                Route("one"),
            ),
            step(
                "An interval that is empty needs nobody.",
                "SELECT id, name FROM tenants WHERE id > 25 AND id < 15",
                Route("none"),
            ),
            step(
                "A key that is in no range has no home.",
                "INSERT INTO tenants (id, region_code, name, slug) VALUES (0, 'USA', 'Zero', 'zero')",
                Refused("22023"),
            ),
        ],
    },
    Chapter {
        title: "geo",
        remark: "Rows live where their region says: USA, CAN, and DEU with FRA in one place.",
        map: maps::geo,
        steps: &[
            step(
                "A region's rows are on its shard.",
                "SELECT id, name, slug FROM tenants WHERE region_code = 'FRA'",
                Route("one"),
            ),
            step(
                "Without the region, everybody is asked.",
                "SELECT id, name, region_code FROM tenants WHERE id = 42",
                Route("all"),
            ),
            step(
                "A region that the map does not know is refused, not guessed.",
                "INSERT INTO tenants (id, region_code, name, slug) VALUES (61, 'BRA', 'Rio', 'rio')",
                Refused("22023"),
            ),
        ],
    },
    Chapter {
        title: "directory",
        remark: "Tenants 7 and 42 have a home of their own by name; all others go by hash.",
        map: maps::directory,
        steps: &[
            step(
                "Listed: home by name.",
                "SELECT id, name FROM tenants WHERE id = 7",
                Route("one"),
            ),
            step("Not listed: by hash.", "SELECT id, name FROM tenants WHERE id = 8", Route("one")),
            step(
                "Sources that disagree are an error that names both.",
                "/* pgmeridian: key=7 */ SELECT id, name FROM tenants WHERE id = 42",
                Refused("22023"),
            ),
        ],
    },
];

/// Runs all chapters.
pub(super) async fn run(stage: &Stage) -> Result<Outcome, DemoError> {
    let mut surprises = 0;
    stage.screen.line(
        "To the client they are one PostgreSQL. Each step: a statement as any client would send it, → where \
         it goes, the answer.",
    );
    for (index, chapter) in CHAPTERS.iter().enumerate() {
        let title = format!("{} of {}: {}", index + 1, CHAPTERS.len(), chapter.title);
        stage.screen.heading(&title, chapter.remark);
        if index > 0 {
            stage.clear().await?;
            stage.proxy.swap_map(&(chapter.map)(&stage.shards)).await?;
            stage
                .screen
                .line("The map was swapped under the running proxy; the data is loaded again.");
        }
        let rows = stage.load().await?;
        stage.show_placement(rows).await?;
        let client = stage.connect().await?;
        for step in chapter.steps {
            if let Err(surprise) = stage.take(&client, step).await {
                surprises += 1;
                stage.screen.line(&format!("   !! not as announced: {surprise}"));
            }
            stage.screen.pause().await;
        }
    }
    if surprises > 0 {
        stage.screen.heading("the end", &format!("{surprises} steps did not go as announced."));
        return Ok(Outcome::Surprised);
    }
    stage.screen.heading(
        "the end",
        "Everything is stopped and removed. `pgmeridian demo` serves it to play with.",
    );
    Ok(Outcome::Done)
}

impl Stage {
    /// Where the rows are, by the shards' own count.
    async fn show_placement(&self, rows: u64) -> Result<(), DemoError> {
        let (tenants, messages) =
            (self.count("tenants").await?, self.count("message_history").await?);
        let table: Vec<Vec<String>> = self
            .shards
            .iter()
            .zip(tenants.iter().zip(&messages))
            .map(|(shard, (tenants, messages))| {
                vec![shard.name.clone(), tenants.to_string(), messages.to_string()]
            })
            .collect();
        self.screen.line(&format!(
            "{rows} rows of {} tenants went through the proxy; the shards hold:",
            sample::TENANTS
        ));
        let columns = ["shard", "tenants", "messages"].map(str::to_owned);
        self.screen.rows(&columns, &table);
        Ok(())
    }

    /// Shows and runs one step; what went otherwise than announced comes back as text.
    async fn take(&self, client: &Client, step: &Step) -> Result<(), String> {
        self.screen.statement(step.say, step.sql);
        let mut kind = String::new();
        if let Route(_) = step.expect {
            let route = explain(client, step.sql).await?;
            self.screen.route(&route);
            route["kind"].as_str().unwrap_or_default().clone_into(&mut kind);
        }
        match (ask(client, step.sql).await, step.expect) {
            (Ok(reply), Text) => self.screen.text(&reply.rows),
            (Ok(reply), Route(expected)) => {
                if reply.columns.is_empty() {
                    self.screen.remark(&format!("{} rows", reply.affected));
                }
                self.screen.rows(&reply.columns, &reply.rows);
                if kind != expected {
                    return Err(format!("the route should be \"{expected}\""));
                }
            }
            (Ok(_), Refused(code)) => return Err(format!("it should be refused with {code}")),
            (Err(error), expect) => {
                let Some(said) = error.as_db_error() else { return Err(error.to_string()) };
                self.screen.refusal(said);
                match expect {
                    Refused(code) if code == said.code().code() => {}
                    Refused(code) => return Err(format!("the SQLSTATE should be {code}")),
                    Route(_) | Text => return Err("it should be answered".to_owned()),
                }
            }
        }
        Ok(())
    }
}

/// The route of a statement as `EXPLAIN (ROUTE, FORMAT JSON)` gives it.
async fn explain(client: &Client, sql: &str) -> Result<Value, String> {
    let reply = ask(client, &format!("EXPLAIN (ROUTE, FORMAT JSON) {sql}"))
        .await
        .map_err(|error| super::describe(&error))?;
    let text: String = reply.rows.into_iter().flatten().collect::<Vec<_>>().join("\n");
    serde_json::from_str(&text).map_err(|error| format!("EXPLAIN gave no JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cluster::{Cluster, DATABASE, Options};

    /// What the tour shows must be right SQL with something to show, whoever runs it.
    #[test]
    fn steps_are_sql_with_an_answer() {
        let cluster = Cluster::start(&Options::named("tour")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = cluster.connect(DATABASE).await.unwrap();
            for statement in [sample::SCHEMA, sample::PLANS, sample::SETTINGS] {
                client.batch_execute(statement).await.unwrap();
            }
            for insert in (1..=sample::TENANTS).flat_map(sample::tenant) {
                client.batch_execute(&insert.sql).await.unwrap();
            }
            for step in CHAPTERS.iter().flat_map(|chapter| chapter.steps) {
                let Route(kind) = step.expect else { continue };
                let reply = ask(&client, step.sql).await;
                let reply = reply.unwrap_or_else(|error| panic!("{}: {error:?}", step.sql));
                assert_eq!(reply.rows.is_empty(), kind == "none", "{}", step.sql);
            }
        });
    }
}
