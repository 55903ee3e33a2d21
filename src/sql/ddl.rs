//! A catalog from a file of CREATE statements: for offline `route --schema`, and for tests.
//!
//! It reads tokens, not a tree, and only what the catalog keeps: tables with their columns, primary keys
//! and defaults, views, functions, sequences, domains. Statements of other kinds, and what it does not
//! understand within one, are skipped. It is not PostgreSQL: a file that PostgreSQL would refuse may pass.

use std::sync::Arc;

use super::reshape;
use super::tokens::{Token, TokenKind, closing, depth_step, tokenize};
use crate::catalog::{
    Catalog, Column, DefaultValue, Function, RelationKind, ShardCheck, Table, Volatility,
};
use crate::datum::{Oid, oid};
use crate::error::{SqlError, SqlState};

/// OIDs given to user types, which have none before they exist: the first that PostgreSQL gives to users.
const FIRST_USER_OID: Oid = 16_384;

impl Catalog {
    /// Reads a file of CREATE statements, names without a schema being in `public`.
    ///
    /// # Errors
    /// 42601 if the text can't be cut into tokens.
    pub fn from_ddl(sql: &str) -> Result<Self, SqlError> {
        let tokens =
            tokenize(sql, None).map_err(|f| SqlError::new(SqlState::SYNTAX_ERROR, f.reason))?;
        let mut catalog = Self::default();
        let mut domains = Vec::new();
        let mut start = 0;
        let mut depth = 0;
        for (i, token) in tokens.iter().enumerate() {
            depth += depth_step(*token, sql);
            if token.is(sql, ";") && depth <= 0 {
                let own = tokens.get(start..i).unwrap_or_default();
                statement(&mut catalog, &mut domains, sql, own);
                start = i + 1;
                depth = 0;
            }
        }
        statement(&mut catalog, &mut domains, sql, tokens.get(start..).unwrap_or_default());
        catalog.tell_domains(&domains);
        catalog.add_heirs();
        Ok(catalog)
    }
}

/// A type of users' that is another one with rules of its own.
struct Domain {
    name: String,
    /// The type beneath; `None` where a length in between makes another value of what is written.
    base: Option<Oid>,
}

impl Catalog {
    /// Columns whose types are domains get what is beneath those.
    fn tell_domains(&mut self, domains: &[Domain]) {
        let columns = self.tables.values_mut().filter_map(Arc::get_mut);
        for column in columns.flat_map(|table| &mut table.columns) {
            let own = |(_, domain): &(Oid, &Domain)| {
                column.type_oid == FIRST_USER_OID && column.type_name == domain.name
            };
            let Some((type_oid, domain)) = (FIRST_USER_OID + 1..).zip(domains).find(own) else {
                continue;
            };
            (column.type_oid, column.base_oid) = (type_oid, domain.base.unwrap_or(type_oid));
            self.domains.extend(domain.base.map(|base| (type_oid, base)));
        }
    }
}

/// Reads one statement, if it is of a kind that is read.
fn statement(catalog: &mut Catalog, domains: &mut Vec<Domain>, sql: &str, tokens: &[Token]) {
    let mut reader = Reader { sql, tokens, at: 0 };
    if reader.words(&["alter", "table"]) {
        reader.skip_words(&["if", "exists", "only"]);
        alter_table(catalog, &mut reader);
        return;
    }
    if !reader.words(&["create"]) {
        return;
    }
    reader.skip_words(&["or", "replace", "unlogged", "foreign"]);
    if reader.words(&["table"]) {
        create_table(catalog, &mut reader);
    } else if reader.words(&["view"]) || reader.words(&["recursive", "view"]) {
        create_view(catalog, &mut reader, RelationKind::View);
    } else if reader.words(&["materialized", "view"]) {
        create_view(catalog, &mut reader, RelationKind::MaterializedView);
    } else if reader.words(&["function"]) || reader.words(&["procedure"]) {
        create_function(catalog, &mut reader, false);
    } else if reader.words(&["aggregate"]) {
        create_function(catalog, &mut reader, true);
    } else if reader.words(&["sequence"]) {
        reader.skip_words(&["if", "not", "exists"]);
        if let Some((schema, name)) = reader.qualified() {
            insert(catalog, table(schema, name, RelationKind::Sequence, Vec::new()));
        }
    } else if reader.words(&["domain"]) {
        domains.extend(create_domain(domains.as_slice(), &mut reader));
    } else if reader.words(&["trigger"]) || reader.words(&["constraint", "trigger"]) {
        create_trigger(catalog, &mut reader);
    }
}

fn insert(catalog: &mut Catalog, table: Table) {
    catalog.tables.insert((table.schema.clone(), table.name.clone()), Arc::new(table));
}

fn table(schema: String, name: String, kind: RelationKind, columns: Vec<Column>) -> Table {
    Table { kind, ..Table::plain(schema, name, columns) }
}

fn create_table(catalog: &mut Catalog, reader: &mut Reader<'_>) {
    reader.skip_words(&["if", "not", "exists"]);
    let Some((schema, name)) = reader.qualified() else { return };
    if reader.words(&["partition", "of"]) {
        let parent = reader.qualified().and_then(|key| catalog.tables.get(&key).cloned());
        if let Some(parent) = parent {
            let mut made = table(schema, name, RelationKind::Table, parent.columns.clone());
            made.primary_key.clone_from(&parent.primary_key);
            made.parents.push((parent.schema.clone(), parent.name.clone()));
            made.parents.extend(parent.parents.iter().cloned());
            insert(catalog, made);
        }
        return;
    }
    if !reader.symbol("(") {
        return;
    }
    let mut made = table(schema, name, RelationKind::Table, Vec::new());
    let mut key_names = Vec::new();
    for mut item in reader.items() {
        item.table_item(catalog, &mut made, &mut key_names);
    }
    made.set_primary_key(&key_names);
    insert(catalog, made);
}

fn alter_table(catalog: &mut Catalog, reader: &mut Reader<'_>) {
    let Some(key) = reader.qualified() else { return };
    let Some(known) = catalog.tables.get(&key) else { return };
    let (mut altered, mut rewritten) = (Table::clone(known), Vec::new());
    for mut action in reader.rest().items() {
        reshape::apply(&mut action, catalog, &mut altered, &mut rewritten);
    }
    catalog.tables.remove(&key);
    insert(catalog, altered);
}

impl Table {
    pub(super) fn primary_key_names(&self) -> Vec<String> {
        let columns = self.primary_key.iter().filter_map(|&i| self.columns.get(usize::from(i)));
        columns.map(|c| c.name.clone()).collect()
    }

    pub(super) fn set_primary_key(&mut self, names: &[String]) {
        self.primary_key = names.iter().filter_map(|n| self.column(n)).collect();
        for &index in &self.primary_key {
            if let Some(column) = self.columns.get_mut(usize::from(index)) {
                column.not_null = true;
            }
        }
    }
}

fn create_view(catalog: &mut Catalog, reader: &mut Reader<'_>, kind: RelationKind) {
    reader.skip_words(&["if", "not", "exists"]);
    let Some((schema, name)) = reader.qualified() else { return };
    let mut made = table(schema, name, kind, Vec::new());
    made.columns_known = false;
    if reader.symbol("(") {
        let names = reader.items().into_iter().filter_map(|mut item| item.name());
        made.columns = names.map(Column::named).collect();
        made.columns_known = true;
    }
    while reader.at < reader.tokens.len() && !reader.words(&["as"]) {
        reader.at += 1;
    }
    let body = (reader.tokens.get(reader.at), reader.tokens.last());
    if let (Some(first), Some(last)) = body {
        made.view_definition =
            reader.sql.get(first.start as usize..last.end as usize).map(str::to_owned);
    }
    insert(catalog, made);
}

fn create_function(catalog: &mut Catalog, reader: &mut Reader<'_>, aggregate: bool) {
    let Some(key) = reader.qualified() else { return };
    let mut function = Function {
        volatility: Volatility::Volatile,
        aggregate,
        returns_set: false,
        of_extension: false,
        random_uuid: false,
    };
    let mut rest = reader.rest();
    while rest.at < rest.tokens.len() {
        if rest.words(&["immutable"]) || aggregate {
            function.volatility = Volatility::Immutable;
        } else if rest.words(&["stable"]) {
            function.volatility = Volatility::Stable;
        } else if rest.words(&["returns", "setof"]) || rest.words(&["returns", "table"]) {
            function.returns_set = true;
        }
        rest.at += 1;
    }
    let known = catalog.functions.entry(key).or_insert(function);
    *known = known.strictest(function);
}

fn create_domain(known: &[Domain], reader: &mut Reader<'_>) -> Option<Domain> {
    let (_, name) = reader.qualified()?;
    reader.skip_words(&["as"]);
    let (type_name, type_oid, _) = reader.column_type();
    let beneath = known.iter().find(|domain| domain.name == type_name);
    let base = match beneath {
        Some(domain) if type_oid == FIRST_USER_OID => domain.base,
        _ => Some(type_oid).filter(|oid| *oid != FIRST_USER_OID && !type_name.contains('(')),
    };
    Some(Domain { name, base })
}

fn create_trigger(catalog: &mut Catalog, reader: &mut Reader<'_>) {
    while reader.at < reader.tokens.len() && !reader.words(&["on"]) {
        reader.at += 1;
    }
    let Some(known) = reader.qualified().and_then(|key| catalog.tables.get_mut(&key)) else {
        return;
    };
    if let Some(table) = Arc::get_mut(known) {
        table.has_triggers = true;
    }
}

/// A cursor over one statement's tokens.
pub(super) struct Reader<'t> {
    sql: &'t str,
    tokens: &'t [Token],
    at: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(sql: &'t str, tokens: &'t [Token]) -> Self {
        Self { sql, tokens, at: 0 }
    }

    /// Whether this word comes anywhere in what is left.
    pub(super) fn has_word(&self, word: &str) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        rest.iter().any(|token| token.is_word(self.sql, word))
    }

    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    /// Takes these words if all of them come next.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let next = self.tokens.get(self.at..).unwrap_or_default();
        let found = words.len() <= next.len()
            && words.iter().zip(next).all(|(w, t)| t.is_word(self.sql, w));
        self.at += if found { words.len() } else { 0 };
        found
    }

    /// Takes any of these words as long as they come.
    pub(super) fn skip_words(&mut self, words: &[&str]) {
        while self.peek().is_some_and(|t| words.iter().any(|w| t.is_word(self.sql, w))) {
            self.at += 1;
        }
    }

    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.peek().is_some_and(|t| t.is(self.sql, symbol));
        self.at += usize::from(found);
        found
    }

    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.peek()?.name(self.sql)?;
        self.at += 1;
        Some(name)
    }

    /// `name` or `schema.name`; `public` without one.
    fn qualified(&mut self) -> Option<(String, String)> {
        let first = self.name()?;
        if !self.symbol(".") {
            return Some(("public".to_owned(), first));
        }
        self.name().map(|second| (first, second))
    }

    pub(super) fn rest(&self) -> Reader<'t> {
        Reader { sql: self.sql, tokens: self.tokens.get(self.at..).unwrap_or_default(), at: 0 }
    }

    /// The comma-separated items up to the bracket that closes the one before, which is passed.
    pub(super) fn items(&mut self) -> Vec<Reader<'t>> {
        let mut items = Vec::new();
        let mut depth = 0;
        let mut start = self.at;
        while let Some(token) = self.peek() {
            depth += depth_step(token, self.sql);
            if depth < 0 {
                break;
            }
            if depth == 0 && token.is(self.sql, ",") {
                items.push(self.slice(start));
                start = self.at + 1;
            }
            self.at += 1;
        }
        items.push(self.slice(start));
        self.at += 1;
        items
    }

    fn slice(&self, start: usize) -> Reader<'t> {
        Reader { sql: self.sql, tokens: self.tokens.get(start..self.at).unwrap_or_default(), at: 0 }
    }

    /// A column definition or a table constraint.
    pub(super) fn table_item(
        &mut self,
        catalog: &Catalog,
        table: &mut Table,
        key: &mut Vec<String>,
    ) {
        if self.words(&["constraint"]) {
            self.at += 1;
        }
        if self.words(&["primary", "key"]) {
            if self.symbol("(") {
                *key = self.items().into_iter().filter_map(|mut item| item.name()).collect();
            }
            return;
        }
        if self.words(&["like"]) {
            if let Some(source) = self.qualified().and_then(|k| catalog.tables.get(&k)) {
                table.columns.extend(source.columns.iter().cloned());
            }
            return;
        }
        if let Some((column, check)) = self.check() {
            if let Some(column) = table.columns.iter_mut().find(|own| own.name == column) {
                column.shard_check = check;
            }
            return;
        }
        let constraint = ["unique", "check", "foreign", "exclude"];
        if self.peek().is_none_or(|t| constraint.iter().any(|w| t.is_word(self.sql, w))) {
            return;
        }
        let Some(name) = self.name() else { return };
        if table.column(&name).is_some() {
            return;
        }
        let (type_name, type_oid, serial) = self.column_type();
        let mut column = Column {
            shard_check: ShardCheck::presumed(&name),
            name,
            type_oid,
            base_oid: type_oid,
            type_name,
            not_null: serial,
            deterministic: true,
            has_default: serial,
            default: if serial { DefaultValue::Sequence } else { DefaultValue::Other },
            bytewise: false,
        };
        while self.at < self.tokens.len() {
            self.column_option(&mut column, key);
        }
        table.columns.push(column);
    }

    fn column_option(&mut self, column: &mut Column, key: &mut Vec<String>) {
        if self.words(&["primary", "key"]) {
            column.not_null = true;
            *key = vec![column.name.clone()];
        } else if self.words(&["not", "null"]) {
            column.not_null = true;
        } else if self.words(&["default"]) {
            column.has_default = true;
            let makes_uuid = self.words(&["gen_random_uuid"]) || self.words(&["uuid_generate_v4"]);
            if makes_uuid && self.symbol("(") && self.symbol(")") {
                column.default = DefaultValue::RandomUuid;
            } else if self.words(&["nextval"]) {
                column.default = DefaultValue::Sequence;
            }
        } else if self.words(&["generated"]) {
            column.has_default = true;
            if self.has_word("identity") {
                column.default = DefaultValue::Sequence;
            }
        } else if self.words(&["collate"]) {
            let name = self.name();
            column.bytewise = matches!(name.as_deref(), Some("C" | "POSIX" | "ucs_basic"));
        } else if let Some((_, check)) = self.check().filter(|(name, _)| *name == column.name) {
            column.shard_check = check;
        } else if self.peek().is_some_and(|t| t.is(self.sql, "(")) {
            self.at = closing(self.tokens, self.sql, self.at) + 1;
        } else {
            self.at += 1;
        }
    }

    /// What a CHECK that comes next says of a column and the shard, whichever shard's schema it is. It is
    /// passed if it says something.
    fn check(&mut self) -> Option<(String, ShardCheck)> {
        let word = self.peek().filter(|token| token.is_word(self.sql, "check"))?;
        self.tokens.get(self.at + 1).filter(|token| token.is(self.sql, "("))?;
        let close = closing(self.tokens, self.sql, self.at + 1);
        let text = self.sql.get(word.start as usize..self.tokens.get(close)?.end as usize)?;
        let (column, check) = ShardCheck::of(text)?;
        self.at = close + 1;
        Some((column, check.of_any_shard()))
    }

    /// The type as `format_type` writes it, its OID, and whether it is one of the serial types.
    fn column_type(&mut self) -> (String, Oid, bool) {
        let Some((_, first)) = self.qualified() else { return (String::new(), 0, false) };
        let known = match first.as_str() {
            "smallserial" | "serial2" => return ("smallint".to_owned(), oid::INT2, true),
            "serial" | "serial4" => return ("integer".to_owned(), oid::INT4, true),
            "bigserial" | "serial8" => return ("bigint".to_owned(), oid::INT8, true),
            "double" if self.words(&["precision"]) => Some(("double precision", 701, 1022)),
            "character" | "char" | "nchar" if self.words(&["varying"]) => {
                Some(("character varying", oid::VARCHAR, oid::VARCHAR_ARRAY))
            }
            other => known_type(other),
        };
        let (mut type_name, base, array) = match known {
            Some((name, base, array)) => (name.to_owned(), base, array),
            None => (first, FIRST_USER_OID, FIRST_USER_OID),
        };
        if self.peek().is_some_and(|t| t.is(self.sql, "(")) {
            let close = closing(self.tokens, self.sql, self.at);
            for token in self.tokens.get(self.at..=close).unwrap_or_default() {
                type_name.push_str(token.text(self.sql));
            }
            self.at = close + 1;
        }
        let zoned = if self.words(&["with", "time", "zone"]) { Some(true) } else { None };
        let zoned = if self.words(&["without", "time", "zone"]) { Some(false) } else { zoned };
        if zoned == Some(true) && base == 1114 {
            return ("timestamp with time zone".to_owned(), 1184, false);
        }
        let mut dimensions = 0;
        while self.symbol("[") || self.words(&["array"]) {
            while self
                .peek()
                .is_some_and(|t| matches!(t.kind, TokenKind::Number(_)) || t.is(self.sql, "]"))
            {
                self.at += 1;
            }
            dimensions += 1;
        }
        if dimensions > 0 {
            return (type_name + "[]", array, false);
        }
        (type_name, base, false)
    }
}

/// Name as `format_type` writes it, OID, OID of the array type (`pg_type.dat`).
fn known_type(name: &str) -> Option<(&'static str, Oid, Oid)> {
    Some(match name {
        "int2" | "smallint" => ("smallint", oid::INT2, oid::INT2_ARRAY),
        "int4" | "int" | "integer" => ("integer", oid::INT4, oid::INT4_ARRAY),
        "int8" | "bigint" => ("bigint", oid::INT8, oid::INT8_ARRAY),
        "text" => ("text", oid::TEXT, oid::TEXT_ARRAY),
        "varchar" => ("character varying", oid::VARCHAR, oid::VARCHAR_ARRAY),
        "char" | "character" | "bpchar" | "nchar" => ("character", oid::BPCHAR, 1014),
        "uuid" => ("uuid", oid::UUID, oid::UUID_ARRAY),
        "bool" | "boolean" => ("boolean", oid::BOOL, 1000),
        "bytea" => ("bytea", oid::BYTEA, 1001),
        "numeric" | "decimal" | "dec" => ("numeric", oid::NUMERIC, 1231),
        "float4" | "real" => ("real", 700, 1021),
        "float8" | "float" => ("double precision", 701, 1022),
        "json" => ("json", oid::JSON, 199),
        "jsonb" => ("jsonb", 3802, 3807),
        "date" => ("date", 1082, 1182),
        "time" => ("time without time zone", 1083, 1183),
        "timetz" => ("time with time zone", 1266, 1270),
        "timestamp" => ("timestamp without time zone", 1114, 1115),
        "timestamptz" => ("timestamp with time zone", 1184, 1185),
        "interval" => ("interval", 1186, 1187),
        "inet" => ("inet", 869, 1041),
        "oid" => ("oid", 26, 1028),
        "name" => ("name", 19, 1003),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(catalog: &Catalog, name: &str) -> String {
        let table = &catalog.tables[&("public".to_owned(), name.to_owned())];
        let columns = table.columns.iter().map(|c| {
            let flags = [(c.not_null, " not null"), (c.has_default, " default")];
            let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
            format!("{} {}={}{flags}", c.name, c.type_name, c.type_oid)
        });
        format!("{} pk {:?}", columns.collect::<Vec<_>>().join(", "), table.primary_key)
    }

    fn check(sql: &str, expected: &str) {
        assert_eq!(describe(&Catalog::from_ddl(sql).unwrap(), "t"), expected, "{sql}");
    }

    #[test]
    fn tables_are_read() {
        check("create table t (a int)", "a integer=23 pk []");
        check(
            "CREATE TABLE IF NOT EXISTS public.t (id bigserial PRIMARY KEY, n varchar(10) NOT NULL DEFAULT 'a,b', x numeric(10, 2));",
            "id bigint=20 not null default, n character varying(10)=1043 not null default, x numeric(10,2)=1700 pk [0]",
        );
        check(
            "create table t (a uuid, \"B c\" text[], ts timestamp(3) with time zone, constraint k primary key (\"B c\", a), check (a is not null), unique (a))",
            "a uuid=2950 not null, B c text[]=1009 not null, ts timestamp with time zone=1184 pk [1, 0]",
        );
        check(
            "create table t (a int generated always as identity, b character varying (5)); alter table only t add constraint x primary key (a); alter table t add column c mood",
            "a integer=23 not null default, b character varying(5)=1043, c mood=16384 pk [0]",
        );
        check(
            "create table t (a int, b int) partition by hash (a)",
            "a integer=23, b integer=23 pk []",
        );
    }

    #[test]
    fn domains_are_the_types_beneath_them() {
        let catalog = Catalog::from_ddl(
            "create domain key_id as bigint check (value > 0); create domain app.inner_id key_id not null;
             create domain short varchar(5); create domain shorter as short;
             create table t (a key_id, b inner_id, c short, d shorter, e key_id[], f mood, g bigint);",
        )
        .unwrap();
        let table = &catalog.tables[&("public".to_owned(), "t".to_owned())];
        let columns = table.columns.iter().map(|column| (column.type_oid, column.base_oid));
        let expected = [
            (16_385, 20),
            (16_386, 20),
            (16_387, 16_387),
            (16_388, 16_388),
            (16_384, 16_384),
            (16_384, 16_384),
            (20, 20),
        ];
        assert_eq!(columns.collect::<Vec<_>>(), expected);
        assert_eq!((catalog.base_type(16_386), catalog.base_type(16_387)), (20, 16_387));
    }

    #[test]
    fn other_statements_are_read_or_skipped() {
        let catalog = Catalog::from_ddl(
            "set x = 1; create view v(x) as select a from t where b = ';'; create view w as select 1;
             create or replace function f(int) returns setof int language sql stable as $$ select 1; $$;
             create aggregate g(int) (sfunc = x, stype = int); create sequence s;
             create table t (a int); create trigger r after insert on t for each row execute function f();",
        )
        .unwrap();
        let get = |name: &str| &catalog.tables[&("public".to_owned(), name.to_owned())];
        assert_eq!(get("v").view_definition.as_deref(), Some("select a from t where b = ';'"));
        assert!(get("v").columns_known && !get("w").columns_known);
        assert_eq!(get("s").kind, RelationKind::Sequence);
        assert!(get("t").has_triggers);
        let f = catalog.functions[&("public".to_owned(), "f".to_owned())];
        assert_eq!((f.volatility, f.returns_set), (Volatility::Stable, true));
        assert!(catalog.functions[&("public".to_owned(), "g".to_owned())].aggregate);
        assert!(Catalog::from_ddl("select 'x").is_err());
    }
}
