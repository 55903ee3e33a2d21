//! A chat-bot server's database code, in diesel: an r2d2 pool that tests each connection at checkout,
//! statements from the DSL (named prepared statements, binary parameters) and from `sql_query` (unnamed),
//! `eq_any` with an array parameter, RETURNING, ON CONFLICT. Each call checks what came back, so that it
//! serves as a test of the proxy, too.
//!
//! Run `pgmeridian demo`, then `cargo run` here; `DATABASE_URL` points elsewhere.

use std::error::Error;
use std::thread;

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

type AnyError = Box<dyn Error + Send + Sync>;

const DEFAULT_URL: &str = "postgresql://bot:bot@127.0.0.1:6432/bots";
const TENANTS: std::ops::RangeInclusive<i64> = 1..=60;

diesel::table! {
    tenants (id) {
        id -> BigInt,
        region_code -> VarChar,
        name -> VarChar,
        slug -> VarChar,
        is_active -> Bool,
    }
}

diesel::table! {
    users (id) {
        id -> Uuid,
        tenant_id -> BigInt,
        username -> VarChar,
        email -> VarChar,
        is_active -> Bool,
    }
}

diesel::table! {
    bots (id) {
        id -> Uuid,
        tenant_id -> BigInt,
        name -> VarChar,
    }
}

diesel::table! {
    user_sessions (id) {
        id -> Uuid,
        tenant_id -> BigInt,
        region_code -> VarChar,
        user_id -> Uuid,
        bot_id -> Uuid,
        title -> Nullable<VarChar>,
        message_count -> Integer,
    }
}

diesel::table! {
    message_history (id) {
        id -> Uuid,
        session_id -> Uuid,
        tenant_id -> BigInt,
        region_code -> VarChar,
        user_id -> Uuid,
        role -> SmallInt,
        content -> Text,
        message_index -> Integer,
    }
}

diesel::joinable!(user_sessions -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(tenants, users, bots, user_sessions, message_history);

#[derive(Insertable)]
#[diesel(table_name = user_sessions)]
struct NewSession<'a> {
    id: Uuid,
    tenant_id: i64,
    region_code: &'a str,
    user_id: Uuid,
    bot_id: Uuid,
    title: &'a str,
}

#[derive(Insertable)]
#[diesel(table_name = message_history)]
struct NewMessage<'a> {
    id: Uuid,
    session_id: Uuid,
    tenant_id: i64,
    region_code: &'a str,
    user_id: Uuid,
    role: i16,
    content: &'a str,
    message_index: i32,
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    config_value: String,
}

fn main() -> Result<(), AnyError> {
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| DEFAULT_URL.to_owned());
    let pool = Pool::builder()
        .max_size(8)
        .test_on_check_out(true)
        .build(ConnectionManager::<PgConnection>::new(url))?;

    let turns = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let pool = pool.clone();
                scope.spawn(move || -> Result<usize, AnyError> {
                    let mut turns = 0;
                    for tenant in TENANTS.filter(|tenant| tenant % 4 == worker) {
                        chat_turn(&mut *pool.get()?, tenant)?;
                        turns += 1;
                    }
                    Ok(turns)
                })
            })
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join().expect("a worker's thread"));
        joined.sum::<Result<usize, AnyError>>()
    })?;
    println!("{turns} chat turns, each on its tenant's shard");

    across_tenants(&mut *pool.get()?)?;
    refused(&mut *pool.get()?)
}

/// What one message from a user does: about ten statements, all with the tenant in the text.
fn chat_turn(connection: &mut PgConnection, tenant: i64) -> Result<(), AnyError> {
    let (region, active): (String, bool) = tenants::table
        .find(tenant)
        .select((tenants::region_code, tenants::is_active))
        .first(connection)?;
    assert!(active);
    let user: Uuid = users::table
        .filter(users::tenant_id.eq(tenant).and(users::username.eq("user1")))
        .select(users::id)
        .first(connection)?;
    let bot: Uuid = bots::table
        .filter(bots::tenant_id.eq(tenant).and(bots::name.eq("support")))
        .select(bots::id)
        .first(connection)?;
    let greeting: Setting = diesel::sql_query(
        "SELECT config_value FROM bot_configuration \
         WHERE bot_id = $1 AND config_key = $2 AND tenant_id = $3 LIMIT 1",
    )
    .bind::<SqlUuid, _>(bot)
    .bind::<Text, _>("greeting")
    .bind::<BigInt, _>(tenant)
    .get_result(connection)?;

    let session = Uuid::new_v4();
    let (stored, title): (Uuid, Option<String>) = diesel::insert_into(user_sessions::table)
        .values(NewSession {
            id: session,
            tenant_id: tenant,
            region_code: &region,
            user_id: user,
            bot_id: bot,
            title: "A question",
        })
        .returning((user_sessions::id, user_sessions::title))
        .get_result(connection)?;
    assert_eq!((stored, title.as_deref()), (session, Some("A question")));

    let contents = ["A question", greeting.config_value.as_str()];
    for (index, content) in contents.into_iter().enumerate() {
        let inserted = diesel::insert_into(message_history::table)
            .values(NewMessage {
                id: Uuid::new_v4(),
                session_id: session,
                tenant_id: tenant,
                region_code: &region,
                user_id: user,
                role: i16::try_from(index + 1)?,
                content,
                message_index: i32::try_from(index)?,
            })
            .execute(connection)?;
        assert_eq!(inserted, 1);
    }
    let history: Vec<(i16, String)> = message_history::table
        .filter(message_history::session_id.eq(session).and(message_history::tenant_id.eq(tenant)))
        .order(message_history::message_index)
        .select((message_history::role, message_history::content))
        .load(connection)?;
    assert_eq!(history.len(), contents.len());

    count_usage(connection, tenant, user, bot)?;
    tidy_up(connection, tenant, session)
}

/// A counter row, made or raised: INSERT … ON CONFLICT.
fn count_usage(
    connection: &mut PgConnection,
    tenant: i64,
    user: Uuid,
    bot: Uuid,
) -> Result<(), AnyError> {
    let counted = diesel::sql_query(
        "INSERT INTO usage_analytics \
           (id, tenant_id, region_code, user_id, bot_id, date, message_count) \
         VALUES ($1, $2, 'USA', $3, $4, current_date, 1) \
         ON CONFLICT (tenant_id, user_id, bot_id, date) \
         DO UPDATE SET message_count = usage_analytics.message_count + 1",
    )
    .bind::<SqlUuid, _>(Uuid::new_v4())
    .bind::<BigInt, _>(tenant)
    .bind::<SqlUuid, _>(user)
    .bind::<SqlUuid, _>(bot)
    .execute(connection)?;
    assert_eq!(counted, 1);
    Ok(())
}

/// A transaction on the tenant's shard.
fn tidy_up(connection: &mut PgConnection, tenant: i64, session: Uuid) -> Result<(), AnyError> {
    connection.transaction(|connection| {
        let updated = diesel::update(
            user_sessions::table
                .filter(user_sessions::id.eq(session).and(user_sessions::tenant_id.eq(tenant))),
        )
        .set(user_sessions::message_count.eq(2))
        .execute(connection)?;
        assert_eq!(updated, 1);
        let deleted = diesel::delete(
            user_sessions::table
                .filter(user_sessions::id.eq(session).and(user_sessions::tenant_id.eq(tenant))),
        )
        .execute(connection)?;
        assert_eq!(deleted, 1);
        Ok(())
    })
}

/// `eq_any` sends one array parameter; its elements may live on several shards.
fn across_tenants(connection: &mut PgConnection) -> Result<(), AnyError> {
    let wanted: Vec<i64> = vec![1, 2, 3, 4, 5, 1000];
    let mut found: Vec<i64> =
        tenants::table.filter(tenants::id.eq_any(&wanted)).select(tenants::id).load(connection)?;
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4, 5]);
    println!("tenants {found:?} found, wherever they live");
    Ok(())
}

/// A refusal is an ordinary database error; the connection goes on.
fn refused(connection: &mut PgConnection) -> Result<(), AnyError> {
    let moved = diesel::update(users::table.filter(users::tenant_id.eq(42)))
        .set(users::tenant_id.eq(43))
        .execute(connection);
    match moved {
        Err(diesel::result::Error::DatabaseError(_, said)) => {
            println!("refused: {}", said.message())
        }
        other => return Err(format!("changing the key should be refused, not {other:?}").into()),
    }
    let one: i64 = tenants::table.find(1).select(tenants::id).first(connection)?;
    assert_eq!(one, 1);
    Ok(())
}
