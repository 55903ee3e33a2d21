//! The queries that read a PostgreSQL's schema, and the catalog made of their rows.
//!
//! Whoever has a connection runs [`READ_RELATIONS`], [`READ_COLUMNS`] and [`READ_FUNCTIONS`] (in one
//! transaction, so that they see one schema) and hands the rows over as text to [`Catalog::from_rows`].
//! [`READ_SETTINGS`] goes before them: under an empty `search_path` `pg_get_viewdef` and `format_type`
//! qualify every name that is not in `pg_catalog`. System schemas, temporary and TOAST tables are left
//! out. The columns read are those of PostgreSQL 12 to 17.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    Catalog, Column, DefaultPath, DefaultValue, Function, Heir, RelationKind, ShardCheck, Table,
    Volatility,
};
use crate::datum::Oid;
use crate::error::{SqlError, SqlState};

/// To be run before the others, in the same transaction.
///
/// Without compiling them: how many rows a recursive query gives is overestimated a thousandfold, and a second
/// would be spent on code that runs for some milliseconds.
pub const READ_SETTINGS: &str = "SET LOCAL search_path = ''; SET LOCAL jit = off";

/// One row per relation: OID, schema, name, `relkind`, view definition, whether writing to it runs code of
/// users', primary key as attribute numbers separated by blanks, OIDs of the tables that it is a partition or a
/// child of, nearest first, separated by blanks, whether it has rules, the functions of its BEFORE ROW triggers of
/// INSERT and UPDATE (language, a blank, source) separated by form feeds.
///
/// Code runs for triggers and rules (a view's own `_RETURN` rule aside), and for functions in defaults and in
/// checks, those of domains too; written to is also a table whose partition or child has such, and one whose
/// foreign keys carry a change on to such. What is immutable or written in C is taken at its word: neither
/// leaves anything on a connection.
pub const READ_RELATIONS: &str = "\
WITH RECURSIVE code (oid) AS MATERIALIZED (
   SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
   WHERE p.provolatile <> 'i' AND l.lanname NOT IN ('internal', 'c')
     AND p.pronamespace NOT IN ('pg_catalog'::pg_catalog.regnamespace, 'information_schema'::pg_catalog.regnamespace)),
calls (classid, objid) AS MATERIALIZED (
   SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN code ON code.oid = d.refobjid
   WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass),
checks (relation, domain) AS (
   SELECT k.conrelid, k.contypid FROM calls JOIN pg_catalog.pg_constraint k ON k.oid = calls.objid
   WHERE calls.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.contype = 'c'),
runs (oid) AS (
   (SELECT t.tgrelid FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal
    UNION SELECT r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.rulename <> '_RETURN'
    UNION SELECT a.adrelid FROM calls JOIN pg_catalog.pg_attrdef a ON a.oid = calls.objid
          WHERE calls.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
    UNION SELECT checks.relation FROM checks WHERE checks.relation <> 0
    UNION SELECT a.attrelid FROM checks JOIN pg_catalog.pg_attribute a ON a.atttypid = checks.domain)
   UNION
   SELECT above.oid FROM runs CROSS JOIN LATERAL (
      SELECT h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = runs.oid
      UNION ALL
      SELECT k.confrelid FROM pg_catalog.pg_constraint k WHERE k.conrelid = runs.oid AND k.contype = 'f'
        AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))) AS above (oid))
SELECT c.oid::text, n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END,
       (c.oid IN (SELECT runs.oid FROM runs))::text,
       (SELECT i.indkey::text FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
       (WITH RECURSIVE up (parent, depth) AS (
          SELECT h.inhparent, 1 FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid
          UNION
          SELECT h.inhparent, up.depth + 1 FROM up
          JOIN pg_catalog.pg_inherits h ON h.inhrelid = up.parent)
        SELECT pg_catalog.string_agg(up.parent::text, ' ' ORDER BY up.depth, up.parent) FROM up),
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')::text,
       (SELECT pg_catalog.string_agg(l.lanname || ' ' || p.prosrc, E'\\f')
        FROM pg_catalog.pg_trigger t
        JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
          AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND l.lanname NOT IN ('internal', 'c'))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT (n.nspname = 'pgmeridian' AND c.relname = 'decision')
ORDER BY 1";

/// One row per column: the relation's OID, attribute number, name, type OID, type name, NOT NULL,
/// deterministic collation, default (or identity, or generated), a collation that compares bytes: C and POSIX of
/// the C library, and all of the provider `builtin` (`pg_newlocale_from_collation`; before PostgreSQL 15 a
/// database's provider is the C library) in an encoding whose bytes sort as those of UTF8 do, validated CHECKs that may tie it to the shard, a line each, the default's expression
/// (an identity's too) if a key's column can have such, the OID of the type beneath a domain, unless one of those in
/// between has a length.
pub const READ_COLUMNS: &str = "\
SELECT a.attrelid::text, a.attnum::text, a.attname::text, a.atttypid::text,
       pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
       COALESCE(l.collisdeterministic, true)::text,
       (a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '')::text,
       (pg_catalog.getdatabaseencoding() IN ('UTF8', 'LATIN1', 'SQL_ASCII') AND CASE l.collprovider
          WHEN 'd' THEN (SELECT b.provider = 'b' OR b.provider = 'c' AND b.datcollate IN ('C', 'POSIX')
                         FROM (SELECT d.datcollate, COALESCE(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') AS provider
                               FROM pg_catalog.pg_database d
                               WHERE d.datname = pg_catalog.current_database()) b)
          WHEN 'b' THEN true
          WHEN 'c' THEN l.collcollate IN ('C', 'POSIX')
        END)::text,
       (SELECT pg_catalog.string_agg(d.definition, E'\\n' ORDER BY d.definition)
        FROM pg_catalog.pg_constraint o,
             LATERAL (SELECT pg_catalog.pg_get_constraintdef(o.oid)) AS d (definition)
        WHERE o.conrelid = a.attrelid AND a.attnum = ANY (o.conkey) AND o.contype = 'c' AND o.convalidated
          AND a.atttypid IN (20, 21, 23) AND pg_catalog.strpos(d.definition, '= ') > 0),
       CASE WHEN a.attidentity <> '' THEN 'nextval(' ELSE (
          SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
          WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''
            AND t.typcategory IN ('N', 'S', 'U')) END,
       CASE WHEN t.typtype = 'd' THEN (
          WITH RECURSIVE beneath (oid, plain) AS (
             SELECT t.typbasetype, t.typtypmod = -1
             UNION ALL
             SELECT d.typbasetype, beneath.plain AND d.typtypmod = -1
             FROM beneath JOIN pg_catalog.pg_type d ON d.oid = beneath.oid WHERE d.typtype = 'd')
          SELECT beneath.oid FROM beneath JOIN pg_catalog.pg_type b ON b.oid = beneath.oid
          WHERE b.typtype <> 'd' AND beneath.plain) END::text
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT (n.nspname = 'pgmeridian' AND c.relname = 'decision')
ORDER BY a.attrelid, a.attnum";

/// One row per function outside the system schemas: schema, name, `provolatile`, aggregate, returns a set, is an
/// extension's, is uuid-ossp's or pgcrypto's maker of random UUIDs (13 is the language C).
pub const READ_FUNCTIONS: &str = "\
SELECT n.nspname::text, p.proname::text, p.provolatile::text, (p.prokind = 'a')::text, p.proretset::text,
       EXISTS (SELECT FROM pg_catalog.pg_depend d
               WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')::text,
       (p.prolang = 13 AND p.pronargs = 0
        AND (p.probin, p.prosrc) IN (('$libdir/uuid-ossp', 'uuid_generate_v4'), ('$libdir/pgcrypto', 'pg_random_uuid')))::text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2";

/// One row per default of `search_path`: rank (see [`DefaultPath`]), role, value. To be run before
/// [`READ_SETTINGS`].
pub const READ_SEARCH_PATHS: &str = "\
SELECT '0', NULL::text, s.reset_val
FROM pg_catalog.pg_settings s
WHERE s.name = 'search_path'
  AND s.source NOT IN ('global', 'database', 'user', 'database user', 'client', 'session')
UNION ALL
SELECT (1 + (d.setdatabase <> 0)::int + 2 * (d.setrole <> 0)::int)::text, r.rolname::text,
       pg_catalog.substr(c.setting, 13)
FROM pg_catalog.pg_db_role_setting d
CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) AS c (setting)
LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.setrole
WHERE pg_catalog.starts_with(c.setting, 'search_path=')
  AND (d.setrole = 0 OR r.oid IS NOT NULL)
  AND (d.setdatabase = 0
       OR d.setdatabase = (SELECT b.oid FROM pg_catalog.pg_database b
                           WHERE b.datname = pg_catalog.current_database()))";

/// A row as text; `None` is NULL.
pub type Row = Vec<Option<String>>;

impl Catalog {
    /// Adds the defaults of `search_path`, from the rows of [`READ_SEARCH_PATHS`].
    #[must_use]
    pub fn with_search_paths(mut self, rows: &[Row]) -> Self {
        self.search_paths = rows
            .iter()
            .filter_map(|row| match row.as_slice() {
                [Some(rank), role, Some(value)] => Some(DefaultPath {
                    rank: rank.parse().ok()?,
                    role: role.clone(),
                    value: value.clone(),
                }),
                _ => None,
            })
            .collect();
        self
    }

    /// The catalog that the rows of the three queries describe.
    ///
    /// # Errors
    /// A row that none of the queries can have given (internal error).
    pub fn from_rows(
        relations: &[Row],
        columns: &[Row],
        functions: &[Row],
    ) -> Result<Self, SqlError> {
        let mut catalog = Self::default();
        for row in functions {
            let [Some(schema), Some(name), Some(volatility), flags @ ..] = row.as_slice() else {
                return Err(malformed("functions"));
            };
            let [aggregate, returns_set, of_extension, random_uuid] = flags else {
                return Err(malformed("functions"));
            };
            let function = Function {
                volatility: volatility_of(volatility),
                aggregate: truth(aggregate.as_deref()),
                returns_set: truth(returns_set.as_deref()),
                of_extension: truth(of_extension.as_deref()),
                random_uuid: truth(random_uuid.as_deref()),
            };
            let known = catalog.functions.entry((schema.clone(), name.clone())).or_insert(function);
            *known = known.strictest(function);
        }
        let mut columns_of: FxHashMap<&str, Vec<(&str, Column)>> = FxHashMap::default();
        for row in columns {
            let [
                Some(relation),
                Some(number),
                Some(name),
                Some(type_oid),
                Some(type_name),
                flags @ ..,
            ] = row.as_slice()
            else {
                return Err(malformed("columns"));
            };
            let [not_null, deterministic, has_default, bytewise, checks, default, base] = flags
            else {
                return Err(malformed("columns"));
            };
            let checks = checks.as_deref().unwrap_or_default().lines().map(ShardCheck::of);
            let shard_check = checks.flatten().find(|(column, _)| column == name);
            let type_oid: Oid = type_oid.parse().map_err(|_| malformed("columns"))?;
            let base_oid = base.as_deref().and_then(|base| base.parse().ok()).unwrap_or(type_oid);
            if base_oid != type_oid {
                catalog.domains.insert(type_oid, base_oid);
            }
            let column = Column {
                name: name.clone(),
                type_oid,
                base_oid,
                type_name: type_name.clone(),
                not_null: truth(not_null.as_deref()),
                deterministic: truth(deterministic.as_deref()),
                has_default: truth(has_default.as_deref()),
                default: catalog.default_value(default.as_deref().unwrap_or_default()),
                bytewise: truth(bytewise.as_deref()),
                shard_check: shard_check.map_or(ShardCheck::None, |(_, check)| check),
            };
            columns_of.entry(relation).or_default().push((number, column));
        }
        let named: FxHashMap<&str, (&str, &str)> = relations
            .iter()
            .filter_map(|row| match row.as_slice() {
                [Some(oid), Some(schema), Some(name), ..] => {
                    Some((oid.as_str(), (schema.as_str(), name.as_str())))
                }
                _ => None,
            })
            .collect();
        for row in relations {
            let [
                Some(oid),
                Some(schema),
                Some(name),
                Some(kind),
                definition,
                triggers,
                key,
                parents,
                rules,
                before_row,
            ] = row.as_slice()
            else {
                return Err(malformed("relations"));
            };
            let key_of =
                |oid: &str| named.get(oid).map(|(s, n)| ((*s).to_owned(), (*n).to_owned()));
            let parents = parents.as_deref().unwrap_or_default().split_ascii_whitespace();
            let columns = columns_of.remove(oid.as_str()).unwrap_or_default();
            let table = Table {
                schema: schema.clone(),
                name: name.clone(),
                kind: relation_kind(kind).ok_or_else(|| malformed("relations"))?,
                primary_key: primary_key(key.as_deref(), &columns),
                columns: columns.into_iter().map(|(_, column)| column).collect(),
                view_definition: definition.clone(),
                has_triggers: truth(triggers.as_deref()),
                has_rules: truth(rules.as_deref()),
                before_row: before_row.as_deref().map(trigger_functions).unwrap_or_default(),
                columns_known: true,
                parents: parents.filter_map(key_of).collect(),
                heirs: Vec::new(),
            };
            catalog.tables.insert((schema.clone(), name.clone()), Arc::new(table));
        }
        catalog.add_heirs();
        catalog.inherit_triggers();
        Ok(catalog)
    }
}

impl Catalog {
    /// What a default's expression says, every name of users' being qualified in it.
    fn default_value(&self, expression: &str) -> DefaultValue {
        if expression.starts_with("nextval(") {
            return DefaultValue::Sequence;
        }
        let cast = expression.strip_prefix('(').and_then(|rest| rest.split_once(")::"));
        let call = match cast {
            // Others may shorten it, or check it.
            Some((call, "text" | "uuid" | "character varying")) => call,
            Some(_) => return DefaultValue::Other,
            None => expression,
        };
        let is_maker = match call.strip_suffix("()") {
            Some("gen_random_uuid") => true,
            Some(function) => function.split_once('.').is_some_and(|(schema, name)| {
                let key = (schema.to_owned(), name.to_owned());
                self.functions.get(&key).is_some_and(|function| function.random_uuid)
            }),
            None => false,
        };
        if is_maker { DefaultValue::RandomUuid } else { DefaultValue::Other }
    }

    /// Tells tables of their partitions and children.
    pub(crate) fn add_heirs(&mut self) {
        let mut heirs: Vec<((String, String), Heir)> = Vec::new();
        for table in self.tables.values() {
            for key in &table.parents {
                let Some(parent) = self.tables.get(key) else { continue };
                let more = table.columns.iter().filter(|c| parent.column(&c.name).is_none());
                let heir = Heir {
                    schema: table.schema.clone(),
                    name: table.name.clone(),
                    more_columns: more.map(|c| c.name.clone()).collect(),
                };
                heirs.push((key.clone(), heir));
            }
        }
        for (key, heir) in heirs {
            if let Some(parent) = self.tables.get_mut(&key).and_then(Arc::get_mut)
                && !parent.heirs.contains(&heir)
            {
                parent.heirs.push(heir);
            }
        }
    }

    /// A row that is written to a table may go to a partition, whose own triggers run.
    fn inherit_triggers(&mut self) {
        let mut found = Vec::new();
        for table in self.tables.values().filter(|table| !table.before_row.is_empty()) {
            found.extend(table.parents.iter().map(|key| (key.clone(), table.before_row.clone())));
        }
        for (key, functions) in found {
            if let Some(parent) = self.tables.get_mut(&key).and_then(Arc::get_mut) {
                parent.before_row.extend(functions);
            }
        }
    }
}

/// Indexes of the primary key's columns, from `indkey`.
fn primary_key(indkey: Option<&str>, columns: &[(&str, Column)]) -> Vec<u16> {
    let numbers = indkey.unwrap_or_default().split_ascii_whitespace();
    let index = |number: &str| columns.iter().position(|(n, _)| *n == number);
    numbers.filter_map(|n| u16::try_from(index(n)?).ok()).collect()
}

fn relation_kind(relkind: &str) -> Option<RelationKind> {
    match relkind {
        "r" | "p" => Some(RelationKind::Table),
        "v" => Some(RelationKind::View),
        "m" => Some(RelationKind::MaterializedView),
        "f" => Some(RelationKind::ForeignTable),
        "S" => Some(RelationKind::Sequence),
        _ => None,
    }
}

fn volatility_of(provolatile: &str) -> Volatility {
    match provolatile {
        "i" => Volatility::Immutable,
        "s" => Volatility::Stable,
        _ => Volatility::Volatile,
    }
}

/// A boolean as text: `true` after a cast to text, `t` from the simple protocol without one.
fn truth(text: Option<&str>) -> bool {
    matches!(text, Some("t" | "true"))
}

/// Language and source of each function.
fn trigger_functions(text: &str) -> Vec<(String, String)> {
    let functions = text.split('\u{c}').filter_map(|function| function.split_once(' '));
    functions.map(|(language, source)| (language.to_owned(), source.to_owned())).collect()
}

fn malformed(query: &str) -> SqlError {
    SqlError::new(
        SqlState::INTERNAL_ERROR,
        format!("the catalog query for {query} gave rows of another form"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Names;

    fn row(values: &[Option<&str>]) -> Row {
        values.iter().map(|v| v.map(str::to_owned)).collect()
    }

    #[test]
    fn the_closest_search_path_counts() {
        let rows = [
            row(&[Some("0"), None, Some("\"$user\", public")]),
            row(&[Some("2"), None, Some("shop")]),
            row(&[Some("3"), Some("app"), Some("app, public")]),
            row(&[Some("4"), Some("other"), Some("other")]),
        ];
        let catalog = Catalog::default().with_search_paths(&rows);
        let check = |role, expect| assert_eq!(catalog.default_search_path(role), Some(expect));
        check("app", "app, public");
        check("other", "other");
        check("bot", "shop");
        assert_eq!(Catalog::default().default_search_path("bot"), None);
    }

    #[test]
    fn rows_become_a_catalog() {
        let relations = [
            row(&[
                Some("1"),
                Some("public"),
                Some("t"),
                Some("p"),
                None,
                Some("true"),
                Some("3 1"),
                None,
                Some("true"),
                None,
            ]),
            row(&[
                Some("2"),
                Some("app"),
                Some("v"),
                Some("v"),
                Some(" SELECT 1;"),
                Some("f"),
                None,
                Some("1"),
                Some("false"),
                None,
            ]),
        ];
        let column = |relation, number, name, oid, not_null| {
            row(&[
                Some(relation),
                Some(number),
                Some(name),
                Some(oid),
                Some("x"),
                Some(not_null),
                Some("t"),
                Some("f"),
                None,
                Some("CHECK ((a > b))\nCHECK ((((b >> 12) & (1023)::bigint) = 3))"),
                Some(if number == "1" { "nextval('s'::regclass)" } else { "(public.f())::text" }),
                (number == "3").then_some("20"),
            ])
        };
        let columns = [column("1", "1", "a", "20", "t"), column("1", "3", "b", "25", "f")];
        let function = |volatility| {
            let no = Some("f");
            row(&[Some("public"), Some("f"), Some(volatility), no, no, no, Some("t")])
        };
        let functions = [function("v"), function("i")];
        let catalog = Catalog::from_rows(&relations, &columns, &functions).unwrap();
        let path = ["$user".to_owned(), "public".to_owned()];
        let names = Names { search_path: &path, user: "app" };
        let table = catalog.resolve(&names, None, "t").unwrap();
        assert_eq!(
            (table.primary_key.as_slice(), table.column("b"), table.has_triggers),
            (&[1, 0][..], Some(1), true)
        );
        let checks: Vec<_> = table.columns.iter().map(|c| c.shard_check).collect();
        assert_eq!(checks, [ShardCheck::None, ShardCheck::Snowflake(Some(3))]);
        let bases: Vec<_> = table.columns.iter().map(|c| (c.type_oid, c.base_oid)).collect();
        assert_eq!(bases, [(20, 20), (25, 20)]);
        assert_eq!((catalog.base_type(25), catalog.base_type(23)), (20, 23));
        let defaults: Vec<_> = table.columns.iter().map(|c| c.default).collect();
        assert_eq!(defaults, [DefaultValue::Sequence, DefaultValue::RandomUuid]);
        for (expression, expect) in [
            ("gen_random_uuid()", DefaultValue::RandomUuid),
            ("(gen_random_uuid())::text", DefaultValue::RandomUuid),
            ("(gen_random_uuid())::character varying", DefaultValue::RandomUuid),
            ("(gen_random_uuid())::character varying(8)", DefaultValue::Other),
            ("(gen_random_uuid())::character(8)", DefaultValue::Other),
            ("(gen_random_uuid())::name", DefaultValue::Other),
            ("(public.f())::public.checked", DefaultValue::Other),
            ("other.f()", DefaultValue::Other),
            ("upper((gen_random_uuid())::text)", DefaultValue::Other),
            ("''::text", DefaultValue::Other),
        ] {
            assert_eq!(catalog.default_value(expression), expect, "{expression}");
        }
        assert_eq!(catalog.resolve(&names, None, "v").unwrap().kind, RelationKind::View);
        assert!(catalog.resolve(&names, Some("public"), "v").is_none());
        assert_eq!(
            catalog.resolve_function(&names, None, "f").unwrap().volatility,
            Volatility::Volatile
        );
        assert!(Catalog::from_rows(&[row(&[None])], &[], &[]).is_err());
    }
}
