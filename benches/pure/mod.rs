//! A world without a server, for benches of the rooms that need none.

#![allow(dead_code, reason = "each bench uses its own part of this")]

use std::fmt::Write as _;
use std::sync::Arc;

use pgmeridian::catalog::Catalog;
use pgmeridian::error::SqlError;
use pgmeridian::exec::planner::{Reading, Scopes};
use pgmeridian::exec::reading;
use pgmeridian::lookup::Known;
use pgmeridian::map::ShardMap;
use pgmeridian::mapstore::World;
use pgmeridian::plan::Scope;
use pgmeridian::session::Session;

const SCHEMA: &str = "
    CREATE TABLE accounts (tenant_id bigint NOT NULL, id bigint NOT NULL, name text, balance bigint,
        PRIMARY KEY (tenant_id, id));
    CREATE TABLE orders (tenant_id bigint NOT NULL, id bigint NOT NULL, account_id bigint, total numeric);
    CREATE TABLE items (tenant_id bigint NOT NULL, order_id bigint, sku text, price numeric);";

/// One row by its key.
pub(crate) const POINT: &str = "SELECT name, balance FROM accounts WHERE tenant_id = 42 AND id = 7";

/// Three tables joined on the key.
pub(crate) const JOIN: &str = "SELECT a.name, o.id, i.sku, i.price FROM accounts a \
    JOIN orders o ON o.tenant_id = a.tenant_id AND o.account_id = a.id \
    JOIN items i ON i.tenant_id = o.tenant_id AND i.order_id = o.id \
    WHERE a.tenant_id = 42 AND a.id = 7 ORDER BY i.price DESC LIMIT 20";

/// One row by its key, as a driver prepares it.
pub(crate) const PREPARED: &str =
    "SELECT name, balance FROM accounts WHERE tenant_id = $1 AND id = $2";

/// Tenants by PostgreSQL's own hash over three shards.
pub(crate) const HASH: &str =
    "strategy = 'hash'\n[keys.tenant.hash]\nalgorithm = 'postgres'\nshards = ['a', 'b', 'c']\n";

/// Nothing but the statement chooses its shard.
pub(crate) struct NoScope;

impl Scopes for NoScope {
    fn scope(&self, _: &World, _: Option<&str>) -> Result<Scope<'_>, SqlError> {
        Ok(Scope::default())
    }

    fn is_own(&self, _: &str) -> bool {
        false
    }
}

/// Three shards and the schema, with this placement of tenants.
pub(crate) fn world(strategy: &str) -> Arc<World> {
    let map = format!(
        "version = 1\ndatabase = 'bots'\ndefault_shard = 'a'\n\
         [[shards]]\nid = 1\nname = 'a'\nurl = 'postgresql://u@localhost/a'\n\
         [[shards]]\nid = 2\nname = 'b'\nurl = 'postgresql://u@localhost/b'\n\
         [[shards]]\nid = 3\nname = 'c'\nurl = 'postgresql://u@localhost/c'\n\
         [keys.tenant]\ncolumns = ['tenant_id']\ntype = 'bigint'\n{strategy}"
    );
    let (map, _) = ShardMap::parse("bench", &map, &|_| None).unwrap();
    let catalog = Catalog::from_ddl(SCHEMA).unwrap();
    let lookups = Arc::new(Known::new(&map));
    Arc::new(World {
        version: 1,
        map: Arc::new(map),
        catalog: Arc::new(catalog),
        catalog_known: true,
        lookups,
        numbers: Arc::default(),
    })
}

/// A directory that lists that many tenants.
pub(crate) fn directory(tenants: u32) -> String {
    let mut text = String::from(
        "strategy = 'directory'\n[keys.tenant.directory]\notherwise = 'refuse'\n[keys.tenant.directory.entries]\n",
    );
    for tenant in 0..tenants {
        let shard = ["a", "b", "c"][tenant as usize % 3];
        writeln!(text, "{tenant} = '{shard}'").unwrap();
    }
    text
}

/// How a session without settings reads its statements.
pub(crate) fn settings() -> Reading {
    reading(&Session::default(), &world(HASH))
}

/// A message of the protocol.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}
