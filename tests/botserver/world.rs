//! Some tenants' rows, and values for the statements' parameters.

use std::fmt::Write as _;

use pgmeridian::datum::oid;

/// Tenants and the shards that the map gives them: two by the directory, the others by ranges.
pub(crate) const TENANTS: [(i64, &str); 6] = [
    (2, "usa-east"),
    (7, "usa-west"),
    (42, "deu"),
    (1000, "usa-east"),
    (1_000_005, "usa-west"),
    (2_000_009, "deu"),
];

/// The default bot.
pub(crate) const NIL: &str = "00000000-0000-0000-0000-000000000000";

const TIMESTAMPTZ: u32 = 1184;
const JSONB: u32 = 3802;

const KINDS: [&str; 14] = [
    "org",
    "user",
    "bot",
    "session",
    "message",
    "config",
    "memory",
    "collection",
    "doc",
    "task",
    "automation",
    "event",
    "assoc",
    "usage",
];

/// The id of a row of a tenant.
pub(crate) fn id(kind: &str, tenant: i64, number: u32) -> String {
    let kind = KINDS.iter().position(|own| *own == kind).unwrap();
    format!("{kind:08x}-0000-4000-8000-{tenant:08x}{number:04x}")
}

/// The number of a shard.
pub(crate) fn shard_id(tenant: i64) -> i16 {
    let shard = TENANTS.iter().find(|(own, _)| *own == tenant).unwrap().1;
    match shard {
        "usa-east" => 1,
        "usa-west" => 2,
        _ => 3,
    }
}

/// What every shard has, and one PostgreSQL has once.
pub(crate) fn everywhere() -> String {
    let mut sql = format!(
        "INSERT INTO tenants (id, shard_id, name, slug, external_id) VALUES (1, 1, 'Default', 'default', '{NIL}');
         INSERT INTO bots (id, tenant_id, shard_id, name) VALUES ('{NIL}', 1, 1, 'default');"
    );
    for n in 0..3 {
        let id = id("config", 0, n);
        let _ = write!(
            sql,
            "INSERT INTO bot_configuration (id, bot_id, tenant_id, shard_id, config_key, config_value)
             VALUES ('{id}', '{NIL}', 1, 1, 'key {n}', 'default {n}');"
        );
    }
    sql
}

/// The rows of one tenant. `now` is what all servers take for it.
pub(crate) fn rows(tenant: i64, now: &str) -> String {
    let own = |kind: &str, number: u32| format!("'{}'", id(kind, tenant, number));
    let both = format!("{tenant}, {}", shard_id(tenant));
    // Times differ, so that there is one order.
    let at = |n: u32| {
        format!("timestamptz '{now}' - interval '{} minutes {} seconds'", n * 3, tenant % 50)
    };
    let mut sql = String::new();
    let external = own("org", 999);
    let _ = write!(
        sql,
        "INSERT INTO tenants (id, shard_id, name, slug, external_id) VALUES ({both}, 'T', 'tenant-{tenant}', {external});"
    );
    let _ = write!(
        sql,
        "INSERT INTO organizations (org_id, tenant_id, name, slug) VALUES ({}, {tenant}, 'O', 'org');",
        own("org", 0)
    );
    for n in 0..3 {
        let _ = write!(
            sql,
            "INSERT INTO users (id, tenant_id, shard_id, username, email) VALUES ({}, {both}, 'user {n}', 'user{n}@{tenant}');
             INSERT INTO user_organizations (user_id, org_id, role) VALUES ({}, {}, 'r{n}');",
            own("user", n),
            own("user", n),
            own("org", 0)
        );
    }
    for n in 0..2 {
        let bot = own("bot", n);
        let _ = write!(
            sql,
            "INSERT INTO bots (id, tenant_id, shard_id, name) VALUES ({bot}, {both}, 'bot {n} of {tenant}');
             INSERT INTO kb_collections (id, bot_id, tenant_id, shard_id, name) VALUES ({}, {bot}, {both}, 'kb');
             INSERT INTO kb_documents (id, collection_id, tenant_id, shard_id, file_path, file_name)
                 VALUES ({}, {}, {both}, '/', 'file {n}'), ({}, {}, {both}, '/', 'file {n} again');
             INSERT INTO system_automations (id, bot_id, tenant_id, shard_id, kind) VALUES ({}, {bot}, {both}, {n});
             INSERT INTO tasks (id, tenant_id, shard_id, bot_id, title, status, priority, tags, due_date)
                 VALUES ({}, {both}, {bot}, 'task {n}', {n}, {n}, '{{a,b}}', {});",
            own("collection", n),
            own("doc", 2 * n),
            own("collection", n),
            own("doc", 2 * n + 1),
            own("collection", n),
            own("automation", n),
            own("task", n),
            at(n)
        );
        for key in 0..3 {
            let _ = write!(
                sql,
                "INSERT INTO bot_configuration (id, bot_id, tenant_id, shard_id, config_key, config_value)
                 VALUES ({}, {bot}, {both}, 'key {key}', 'value {key} of {tenant}');
                 INSERT INTO bot_memories (id, bot_id, tenant_id, shard_id, memory_type, content, importance_score)
                 VALUES ({}, {bot}, {both}, 0, 'm {key}', 0.{key});",
                own("config", 3 * n + key),
                own("memory", 3 * n + key)
            );
        }
    }
    for n in 0..3 {
        let (session, user, bot) = (own("session", n), own("user", n), own("bot", n % 2));
        let _ = write!(
            sql,
            "INSERT INTO user_sessions (id, tenant_id, shard_id, user_id, bot_id, title, created_at, updated_at)
                 VALUES ({session}, {both}, {user}, {bot}, 'session {n}', {}, {});
             INSERT INTO session_kb_associations (id, session_id, tenant_id, shard_id, bot_id, kb_name)
                 VALUES ({}, {session}, {both}, {bot}, 'kb');
             INSERT INTO usage_analytics (id, tenant_id, shard_id, user_id, bot_id, message_count)
                 VALUES ({}, {both}, {user}, {bot}, {n});
             INSERT INTO analytics_events (id, tenant_id, shard_id, bot_id, event_type, created_at)
                 VALUES ({}, {both}, {bot}, 'e', timestamptz '{now}' - interval '{n} days');",
            at(n),
            at(n),
            own("assoc", n),
            own("usage", n),
            own("event", n)
        );
        // No two bots have equally many.
        let nth = TENANTS.iter().position(|(own, _)| *own == tenant).unwrap_or(0) as u32;
        for m in 0..[4 + nth, 20 + nth, 4][n as usize] {
            let _ = write!(
                sql,
                "INSERT INTO message_history (id, session_id, tenant_id, shard_id, user_id, role, content_encrypted, message_index, processing_time_ms, created_at)
                 VALUES ({}, {session}, {both}, {user}, {}, 'message {m}', {m}, {}, {});",
                own("message", 100 * n + m),
                1 + m % 2,
                10 * m + n,
                at(n + m)
            );
        }
    }
    sql
}

/// A parameter's type and its value in binary. `round` makes new ids new, and chooses among rows.
pub(crate) fn value(name: &str, statement: &str, tenant: i64, round: u32) -> (u32, Vec<u8>) {
    let uuid = |kind: &str, number: u32| (oid::UUID, bytes(&id(kind, tenant, number)));
    let text = |text: String| (oid::TEXT, text.into_bytes());
    let inserts = ["insert", "put", "add"].iter().any(|word| statement.ends_with(word));
    // What is inserted is new; what is found was there from the start.
    let fresh = 1000 + round;
    match name {
        "session_id" if statement == "session_insert" => uuid("session", fresh),
        "user_id" if statement == "guest_insert" => uuid("user", fresh),
        "user_id" if statement == "session_by_user_bot" => uuid("user", round % 2),
        "session_id" => uuid("session", round % 3),
        "user_id" => uuid("user", round % 3),
        "bot_id" => uuid("bot", round % 2),
        "org_id" => uuid("org", 0),
        "message_id" => uuid("message", fresh),
        "memory_id" => uuid("memory", fresh),
        "config_id" => uuid("config", fresh),
        "assoc_id" => uuid("assoc", fresh),
        "event_id" => uuid("event", fresh),
        "collection_id" if inserts => uuid("collection", fresh),
        "collection_id" => uuid("collection", round % 2),
        "doc_id" => uuid("doc", round % 4),
        "task_id" if inserts => uuid("task", fresh),
        "task_id" => uuid("task", round % 2),
        "automation_id" => uuid("automation", round % 2),
        "user_ids" => (
            oid::UUID_ARRAY,
            uuids(&[id("user", tenant, 0), id("user", 42, 1), id("user", tenant, 2)]),
        ),
        "tenant_id" => (oid::INT8, tenant.to_be_bytes().to_vec()),
        "shard_id" => (oid::INT2, shard_id(tenant).to_be_bytes().to_vec()),
        "lim" => (oid::INT8, 5_i64.to_be_bytes().to_vec()),
        "off" => (oid::INT8, 0_i64.to_be_bytes().to_vec()),
        "role" | "mtype" | "mem_type" | "status" => (oid::INT2, 0_i16.to_be_bytes().to_vec()),
        "kind" => (oid::INT2, 1_i16.to_be_bytes().to_vec()),
        "idx" | "n" => (oid::INT4, (100 + round).to_be_bytes().to_vec()),
        // The oldest of three events.
        "ts" if statement == "retention_delete" => {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - 946_684_800 - 129_600;
            let micros = i64::try_from(since).unwrap() * 1_000_000;
            (TIMESTAMPTZ, micros.to_be_bytes().to_vec())
        }
        // In 2024, so that rows of today stay on top; each later than the last.
        "ts" => {
            let micros = (757_382_400 + i64::from(round) * 60 + tenant % 50) * 1_000_000;
            (TIMESTAMPTZ, micros.to_be_bytes().to_vec())
        }
        "context" => (JSONB, [&[1][..], br#"{"topic": "orders"}"#].concat()),
        "key" => text(format!("key {}", round % 3)),
        "bot_name" => text(format!("bot {} of {tenant}", round % 2)),
        "email" if !inserts => text(format!("user{}@{tenant}", round % 3)),
        "email" | "username" => text(format!("{name}-{tenant}-{round}")),
        "kb_name" => text("kb".to_owned()),
        "slug" => text(format!("tenant-{tenant}")),
        "org_role" => text("member".to_owned()),
        "event_type" => text("click".to_owned()),
        "table_name" => text("bots".to_owned()),
        "title" | "content" | "value" | "path" | "qdrant" => {
            text(format!("{name} {tenant} {round} ä"))
        }
        _ => panic!("{statement}: what is {name}?"),
    }
}

fn bytes(uuid: &str) -> Vec<u8> {
    let hex: Vec<u8> = uuid.bytes().filter(|byte| *byte != b'-').collect();
    hex.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// `uuid[]` in binary.
fn uuids(ids: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [1, 0, oid::UUID, u32::try_from(ids.len()).unwrap(), 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for id in ids {
        out.extend_from_slice(&16_u32.to_be_bytes());
        out.extend_from_slice(&bytes(id));
    }
    out
}
