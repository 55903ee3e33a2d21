//! The sample data: what sixty tenants of a chat-bot server have stored.
//!
//! Everything is a function of the tenant's number: two loads give the same rows, and a statement in the
//! tour can name an id. Nothing here knows how rows reach a server.

use std::fmt::Write as _;

/// The tables, as DDL for one shard.
pub(super) const SCHEMA: &str = include_str!("schema.sql");

/// Tenants are numbered from 1.
pub(super) const TENANTS: u64 = 60;

/// The regions, dealt out in turn.
pub(super) const REGIONS: [&str; 4] = ["USA", "CAN", "DEU", "FRA"];

/// The sharded tables, parents first.
pub(super) const SHARDED: [&str; 13] = [
    "tenants",
    "organizations",
    "users",
    "bots",
    "bot_configuration",
    "user_sessions",
    "message_history",
    "bot_memories",
    "kb_collections",
    "kb_documents",
    "tasks",
    "usage_analytics",
    "analytics_events",
];

/// The reference table's rows, for every shard.
pub(super) const PLANS: &str = "INSERT INTO plans (plan_tier, name, seats_max) \
    VALUES (0, 'free', 3), (1, 'team', 25), (2, 'business', 250)";

/// The single-shard table's rows.
pub(super) const SETTINGS: &str = "INSERT INTO global_settings (name, value) \
    VALUES ('support_mail', 'help@example.com'), ('theme', 'light'), ('signup', 'open')";

const USERS: u64 = 4;
const BOTS: u64 = 2;
const CONFIGURATION_PER_BOT: u64 = 3;
const SESSIONS: u64 = 5;
const MESSAGES_PER_SESSION: u64 = 8;
const MEMORIES: u64 = 4;
const COLLECTIONS: u64 = 2;
const DOCUMENTS: u64 = 6;
const TASKS: u64 = 5;
const USAGE_DAYS: u64 = 4;
const EVENTS: u64 = 6;

const NAMES: [&str; 12] = [
    "Acme", "Borealis", "Cobalt", "Delphi", "Everest", "Fathom", "Granite", "Harbor", "Indigo",
    "Juniper", "Kestrel", "Lumen",
];
const QUESTIONS: [&str; 4] = [
    "Where is my order?",
    "How do I reset my password?",
    "Which plan has single sign-on?",
    "Can I talk to a person?",
];
const ANSWERS: [&str; 4] = [
    "It left the warehouse this morning.",
    "Use the link on the sign-in page; it is valid for an hour.",
    "Business has it, with as many providers as you like.",
    "Of course. Someone will be with you in a few minutes.",
];

/// One INSERT of one tenant's rows into one table.
pub(super) struct Insert {
    /// The statement.
    pub sql: String,
    /// How many rows it carries.
    pub rows: u64,
}

/// A tenant's region.
pub(super) fn region(tenant: u64) -> &'static str {
    pick(&REGIONS, tenant.wrapping_sub(1))
}

/// The id of row `number` of a tenant in a table: the same each time.
fn id(table: &str, tenant: u64, number: u64) -> String {
    let kind = SHARDED.iter().position(|name| *name == table).unwrap_or(SHARDED.len());
    format!("{kind:08x}-{tenant:04x}-4000-8000-{number:012x}")
}

fn pick<T: Copy>(from: &[T; 4], number: u64) -> T {
    let [a, b, c, d] = *from;
    match number % 4 {
        0 => a,
        1 => b,
        2 => c,
        _ => d,
    }
}

fn name(tenant: u64) -> &'static str {
    NAMES.iter().cycle().nth(usize::try_from(tenant).unwrap_or(0)).copied().unwrap_or("Tenant")
}

/// All INSERTs of one tenant, in the order that foreign keys ask for.
pub(super) fn tenant(tenant: u64) -> Vec<Insert> {
    let region = region(tenant);
    let both = format!("{tenant}, '{region}'");
    let rows = |table: &str, columns: &str, count: u64, row: &dyn Fn(u64) -> String| {
        let mut sql = format!("INSERT INTO {table} ({columns}) VALUES ");
        for number in 0..count {
            let comma = if number == 0 { "" } else { ", " };
            let _ = write!(sql, "{comma}({})", row(number));
        }
        Insert { sql, rows: count }
    };
    let user = |number: u64| id("users", tenant, number % USERS);
    let bot = |number: u64| id("bots", tenant, number % BOTS);
    let (word, slug) = (name(tenant), name(tenant).to_lowercase());
    vec![
        rows("tenants", "id, region_code, name, slug, plan_tier", 1, &|_| {
            format!("{both}, '{word} {tenant}', '{slug}-{tenant}', {}", tenant % 3)
        }),
        rows("organizations", "org_id, tenant_id, region_code, name, slug", 1, &|n| {
            format!("'{}', {both}, '{word}', '{slug}'", id("organizations", tenant, n))
        }),
        rows("users", "id, tenant_id, region_code, username, email", USERS, &|n| {
            format!("'{}', {both}, 'user{n}', 'user{n}@{slug}-{tenant}.example'", user(n))
        }),
        rows("bots", "id, tenant_id, region_code, name, description", BOTS, &|n| {
            let role = if n == 0 { "support" } else { "sales" };
            format!("'{}', {both}, '{role}', 'The {role} bot of {word}'", bot(n))
        }),
        rows(
            "bot_configuration",
            "id, bot_id, tenant_id, region_code, config_key, config_value",
            BOTS * CONFIGURATION_PER_BOT,
            &|n| {
                let key = pick(&["greeting", "model", "temperature", "voice"], n / BOTS);
                let value = pick(&["Hello!", "medium", "0.4", "calm"], n / BOTS);
                let own = id("bot_configuration", tenant, n);
                format!("'{own}', '{}', {both}, '{key}', '{value}'", bot(n))
            },
        ),
        rows(
            "user_sessions",
            "id, tenant_id, region_code, user_id, bot_id, title, message_count, created_at",
            SESSIONS,
            &|n| {
                let (own, title) = (id("user_sessions", tenant, n), pick(&QUESTIONS, tenant + n));
                let at = format!("timestamptz '2025-03-0{} 09:{:02}:00+00'", n + 1, tenant % 60);
                format!(
                    "'{own}', {both}, '{}', '{}', '{title}', {MESSAGES_PER_SESSION}, {at}",
                    user(n),
                    bot(n)
                )
            },
        ),
        rows(
            "message_history",
            "id, session_id, tenant_id, region_code, user_id, role, content, token_count, message_index",
            SESSIONS * MESSAGES_PER_SESSION,
            &|n| {
                let (session, index) = (n / MESSAGES_PER_SESSION, n % MESSAGES_PER_SESSION);
                let texts = if index % 2 == 0 { &QUESTIONS } else { &ANSWERS };
                let content = pick(texts, tenant + session + index / 2);
                format!(
                    "'{}', '{}', {both}, '{}', {}, '{content}', {}, {index}",
                    id("message_history", tenant, n),
                    id("user_sessions", tenant, session),
                    user(session),
                    1 + index % 2,
                    8 + (n * 7 + tenant) % 40,
                )
            },
        ),
        rows(
            "bot_memories",
            "id, bot_id, tenant_id, region_code, content, importance_score",
            MEMORIES,
            &|n| {
                let own = id("bot_memories", tenant, n);
                format!(
                    "'{own}', '{}', {both}, 'customers of {word} ask twice', 0.{}",
                    bot(n),
                    n + 3
                )
            },
        ),
        rows(
            "kb_collections",
            "id, bot_id, tenant_id, region_code, name, document_count",
            COLLECTIONS,
            &|n| {
                let own = id("kb_collections", tenant, n);
                let each = DOCUMENTS / COLLECTIONS;
                format!(
                    "'{own}', '{}', {both}, '{}', {each}",
                    bot(n),
                    ["manuals", "faq"][usize::from(n % 2 == 1)]
                )
            },
        ),
        rows(
            "kb_documents",
            "id, collection_id, tenant_id, region_code, file_name, file_size, is_indexed",
            DOCUMENTS,
            &|n| {
                let own = id("kb_documents", tenant, n);
                let collection = id("kb_collections", tenant, n % COLLECTIONS);
                let size = 1024 * (n + tenant);
                format!("'{own}', '{collection}', {both}, 'part-{n}.pdf', {size}, {}", n % 3 != 0)
            },
        ),
        rows(
            "tasks",
            "id, tenant_id, region_code, bot_id, title, status, priority, tags",
            TASKS,
            &|n| {
                let title = pick(&["Call back", "Refund", "Write up", "Escalate"], n);
                let own = id("tasks", tenant, n);
                format!(
                    "'{own}', {both}, '{}', '{title}', {}, {}, '{{crm,week{n}}}'",
                    bot(n),
                    n % 3,
                    n % 4
                )
            },
        ),
        rows(
            "usage_analytics",
            "id, tenant_id, region_code, user_id, bot_id, date, message_count, total_tokens",
            USAGE_DAYS,
            &|n| {
                let own = id("usage_analytics", tenant, n);
                let counts = format!("{}, {}", 10 + n, 200 + 3 * n + tenant);
                format!(
                    "'{own}', {both}, '{}', '{}', '2025-03-0{}', {counts}",
                    user(n),
                    bot(n),
                    n + 1
                )
            },
        ),
        rows(
            "analytics_events",
            "id, tenant_id, region_code, bot_id, event_type, event_data",
            EVENTS,
            &|n| {
                let kind = pick(&["opened", "asked", "answered", "closed"], n);
                let own = id("analytics_events", tenant, n);
                format!("'{own}', {both}, '{}', '{kind}', '{{\"step\": {n}}}'", bot(n))
            },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::cluster::{Cluster, DATABASE, Options};

    #[test]
    fn the_sample_fits_its_schema() {
        let cluster = Cluster::start(&Options::named("sample")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = cluster.connect(DATABASE).await.unwrap();
            client.batch_execute(SCHEMA).await.unwrap();
            client.batch_execute(PLANS).await.unwrap();
            client.batch_execute(SETTINGS).await.unwrap();
            let mut rows = 0;
            for insert in (1..=TENANTS).flat_map(tenant) {
                client.batch_execute(&insert.sql).await.unwrap();
                rows += insert.rows;
            }
            let mut found = 0;
            for table in SHARDED {
                let count = format!("SELECT count(*) FROM {table}");
                found += client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0);
            }
            assert_eq!(u64::try_from(found).unwrap(), rows);
            assert!(rows > 3000);
        });
    }
}
