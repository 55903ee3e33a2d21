//! What user-defined types and tables are numbered on each shard.
//!
//! An OID is one server's own: the same enum may be 16511 on one shard and 16524 on another. Clients are told the
//! default shard's, since there they look them up.
//!
//! Main types: [`Numbers`], one server's; [`Renumbering`], from one server's to the default shard's and back. What
//! only one of them has keeps its number.

use rustc_hash::FxHashMap;

use super::read::Row;
use crate::datum::{Oid, oid};

/// One row per user-defined type and table: whether it is a type, its name, its OID.
pub const READ_NUMBERS: &str = "\
SELECT 't', pg_catalog.format('%I.%I', n.nspname, t.typname), t.oid::text
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= 16384 AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgmeridian')
UNION ALL
SELECT 'r', pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgmeridian')
ORDER BY 1, 2";

/// A server's numbers, by names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    types: FxHashMap<String, Oid>,
    tables: FxHashMap<String, Oid>,
}

impl Numbers {
    /// From the rows of [`READ_NUMBERS`].
    pub fn from_rows(rows: Vec<Row>) -> Self {
        let mut numbers = Self::default();
        for row in rows {
            let Ok([Some(kind), Some(name), Some(oid)]) = <[Option<String>; 3]>::try_from(row)
            else {
                continue;
            };
            let Ok(oid) = oid.parse() else { continue };
            let those = if kind == "t" { &mut numbers.types } else { &mut numbers.tables };
            those.insert(name, oid);
        }
        numbers
    }

    /// There is nothing that could be numbered otherwise elsewhere.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && self.tables.is_empty()
    }
}

/// How one shard's numbers and the clients' lead to each other, where they differ.
#[derive(Debug, Default)]
pub struct Renumbering {
    types: FxHashMap<Oid, Oid>,
    tables: FxHashMap<Oid, Oid>,
    back: FxHashMap<Oid, Oid>,
}

impl Renumbering {
    /// From a shard's to those that clients know; `None` if they are the same.
    pub fn between(shard: &Numbers, clients: &Numbers) -> Option<Self> {
        let pairs = |own: &FxHashMap<String, Oid>, theirs: &FxHashMap<String, Oid>| {
            let pair = |(name, oid): (&String, &Oid)| Some((*oid, *theirs.get(name)?));
            own.iter().filter_map(pair).filter(|(a, b)| a != b).collect::<FxHashMap<Oid, Oid>>()
        };
        let types = pairs(&shard.types, &clients.types);
        let tables = pairs(&shard.tables, &clients.tables);
        let back = types.iter().map(|(own, theirs)| (*theirs, *own)).collect();
        (!(types.is_empty() && tables.is_empty())).then_some(Self { types, tables, back })
    }

    /// The clients' number of a shard's type.
    pub fn of_type(&self, own: Oid) -> Oid {
        // Most columns have a type of PostgreSQL's own.
        if own < oid::FIRST_NORMAL {
            return own;
        }
        self.types.get(&own).copied().unwrap_or(own)
    }

    /// The clients' number of a shard's table.
    pub fn of_table(&self, own: Oid) -> Oid {
        if own < oid::FIRST_NORMAL {
            return own;
        }
        self.tables.get(&own).copied().unwrap_or(own)
    }

    /// The shard's number of a type that a client has named.
    pub fn own_type(&self, theirs: Oid) -> Oid {
        self.back.get(&theirs).copied().unwrap_or(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: &[(&str, &str, &str)]) -> Numbers {
        let text = |text: &str| Some(text.to_owned());
        Numbers::from_rows(rows.iter().map(|(k, n, o)| vec![text(k), text(n), text(o)]).collect())
    }

    #[test]
    fn what_is_numbered_otherwise_is_found_by_its_name() {
        let home = numbers(&[("t", "public.mood", "16500"), ("r", "public.t", "16600")]);
        let away = numbers(&[
            ("t", "public.mood", "16501"),
            ("r", "public.t", "16600"),
            ("t", "public.own", "16500"),
        ]);
        assert!(Renumbering::between(&home, &home).is_none());
        let between = Renumbering::between(&away, &home).unwrap();
        assert_eq!(between.of_type(16501), 16500);
        assert_eq!(between.own_type(16500), 16501);
        assert_eq!(between.of_type(23), 23);
        assert_eq!(between.of_table(16600), 16600);
        // What only one of them has keeps its number.
        assert_eq!(between.of_type(16500), 16500);
    }
}
