//! Statements: everything that PostgreSQL's grammar allows near keys, from a list of choices.
//!
//! Results must not depend on PostgreSQL's freedom: where rows are picked (LIMIT, DISTINCT ON, windows,
//! ordered aggregates) they are in a total order, up to equal rows.

use crate::choices::Choices;
use crate::words::WORDS;
use crate::world::{INTS, KEYS, RELATIONS, Relation, TEXTS, Ty, UUIDS};

/// What a parameter's value is, before it has a type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
}

#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// The declared type's OID, 0 for none.
    pub(crate) oid: u32,
    pub(crate) binary: bool,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) sql: String,
    pub(crate) params: Vec<Parameter>,
    pub(crate) writes: bool,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    ty: Ty,
}

#[derive(Clone, Debug)]
struct Rel {
    alias: String,
    columns: Vec<Column>,
}

type Frame = Vec<Rel>;

pub(crate) struct Generator<'c> {
    choices: &'c mut Choices,
    frames: Vec<Frame>,
    ctes: Vec<Rel>,
    params: Vec<Parameter>,
    with_params: bool,
    writes: bool,
    budget: i32,
    names: usize,
    /// The sharding key whose tables are named most.
    family: usize,
    /// Indexes of the constants that are used most, so that conditions meet.
    favourites: [usize; 3],
}

/// One statement.
pub(crate) fn generate(choices: &mut Choices) -> Generated {
    let with_params = choices.chance(25);
    let budget = 4 + choices.pick(26) as i32;
    let family = choices.weighted(&[50, 15, 12, 13, 10]);
    let favourites =
        [choices.pick(INTS.len()), choices.pick(TEXTS.len()), choices.pick(UUIDS.len())];
    let mut generator = Generator {
        choices,
        frames: Vec::new(),
        ctes: Vec::new(),
        params: Vec::new(),
        with_params,
        writes: false,
        budget,
        names: 0,
        family,
        favourites,
    };
    let sql = generator.statement();
    let (params, writes) = (generator.params, generator.writes);
    Generated { sql, params, writes }
}

impl Generator<'_> {
    fn pick(&mut self, n: usize) -> usize {
        self.choices.pick(n)
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.choices.chance(percent)
    }

    fn weighted(&mut self, weights: &[usize]) -> usize {
        self.choices.weighted(weights)
    }

    fn int(&mut self) -> i64 {
        let index = self.pick(2 * INTS.len());
        INTS.get(index).copied().unwrap_or(INTS[self.favourites[0]])
    }

    fn text(&mut self) -> &'static str {
        let index = self.pick(2 * TEXTS.len());
        TEXTS.get(index).copied().unwrap_or(TEXTS[self.favourites[1]])
    }

    fn uuid(&mut self) -> &'static str {
        let index = self.pick(2 * UUIDS.len());
        UUIDS.get(index).copied().unwrap_or(UUIDS[self.favourites[2]])
    }

    fn favourite(&self, ty: Ty) -> String {
        match ty {
            Ty::Int | Ty::Num => INTS[self.favourites[0]].to_string(),
            Ty::Text => quoted(TEXTS[self.favourites[1]]),
            Ty::Uuid => quoted(UUIDS[self.favourites[2]]),
        }
    }

    /// Relations of the family, or any.
    fn relation(&mut self, tables_only: bool) -> &'static Relation {
        let near = self.chance(80);
        let found: Vec<&'static Relation> = RELATIONS
            .iter()
            .filter(|r| !tables_only || r.table)
            .filter(|r| !near || r.family() == self.family)
            .collect();
        match self.choices.one(&found) {
            relation if self.chance(90) || tables_only || !near => relation,
            _ => {
                let references: Vec<&'static Relation> =
                    RELATIONS.iter().filter(|r| r.family() == crate::world::REFERENCE).collect();
                *self.choices.one(&references)
            }
        }
    }

    /// Every table of the innermost frame with the favourite key.
    fn pinned(&mut self) -> Option<String> {
        let mut terms = Vec::new();
        for rel in self.frames.last()? {
            for column in &rel.columns {
                let key = KEYS.contains(&column.name.as_str())
                    || rel.columns.len() == 3
                        && column.name == "id"
                        && rel.columns[2].name == "plan_id";
                if key {
                    terms.push(format!(
                        "{}.{} = {}",
                        rel.alias,
                        column.name,
                        self.favourite(column.ty)
                    ));
                }
            }
        }
        if terms.is_empty() { None } else { Some(terms.join(" AND ")) }
    }

    /// A condition for WHERE.
    fn filter(&mut self) -> String {
        let pin = self.chance(45);
        match self.pinned() {
            Some(pinned) if pin => {
                if self.chance(50) {
                    pinned
                } else {
                    format!("{pinned} AND {}", self.pred_in_parentheses())
                }
            }
            _ => self.pred(),
        }
    }

    /// Spends a little; false when nothing is left for anything complicated.
    fn spend(&mut self) -> bool {
        self.budget -= 1;
        self.budget > 0
    }

    fn statement(&mut self) -> String {
        match self.weighted(&[60, 9, 8, 12, 5]) {
            0 => {
                let types = self.types();
                self.query(&types, true)
            }
            1 => self.with_before(Self::update),
            2 => self.with_before(Self::delete),
            3 => self.with_before(Self::insert),
            _ => self.with_before(Self::merge),
        }
    }

    fn with_before(&mut self, make: fn(&mut Self) -> String) -> String {
        self.writes = true;
        let kept = self.ctes.len();
        let with = if self.chance(8) { self.with() } else { String::new() };
        let made = make(self);
        self.ctes.truncate(kept);
        format!("{with}{made}")
    }

    fn types(&mut self) -> Vec<Ty> {
        let count = 1 + self.pick(3);
        (0..count)
            .map(|_| match self.weighted(&[50, 25, 10, 8]) {
                0 => Ty::Int,
                1 => Ty::Text,
                2 => Ty::Uuid,
                _ => Ty::Num,
            })
            .collect()
    }

    // ---- queries --------------------------------------------------------------------------------

    /// A query without parentheses around it.
    fn query(&mut self, types: &[Ty], top: bool) -> String {
        let kept = self.ctes.len();
        let with = if self.spend() && self.chance(14) { self.with() } else { String::new() };
        let body = self.body(types);
        self.ctes.truncate(kept);
        let _ = top;
        format!("{with}{body}")
    }

    fn with(&mut self) -> String {
        let recursive = self.chance(15);
        let mut parts = Vec::new();
        let count = 1 + self.pick(2);
        for _ in 0..count {
            let name = match self.pick(8) {
                0..=4 => format!("c{}", self.fresh()),
                5 => "users".to_owned(),
                6 => "orders".to_owned(),
                _ => "plans".to_owned(),
            };
            if self.ctes.iter().any(|c| c.alias == name) {
                continue;
            }
            let types = self.types();
            let columns: Vec<Column> = types
                .iter()
                .enumerate()
                .map(|(i, ty)| Column { name: self.column_name(i), ty: *ty })
                .collect();
            let list: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
            let rel = Rel { alias: name.clone(), columns: columns.clone() };
            let materialized = *self.choices.one(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            let frames = std::mem::take(&mut self.frames);
            let query = if recursive && self.chance(60) {
                self.recursive(&types, &rel)
            } else if self.chance(4) {
                self.writes = true;
                let outer = std::mem::take(&mut self.budget);
                self.budget = 3;
                let sql = format!("{} RETURNING {}", self.delete_core().0, self.nulls(&types));
                self.budget = outer;
                sql
            } else {
                self.query(&types, false)
            };
            self.frames = frames;
            parts.push(format!("{name}({}) AS {materialized}({query})", list.join(", ")));
            self.ctes.push(rel);
        }
        if parts.is_empty() {
            return String::new();
        }
        let recursive = if recursive { "RECURSIVE " } else { "" };
        format!("WITH {recursive}{} ", parts.join(", "))
    }

    fn nulls(&mut self, types: &[Ty]) -> String {
        types.iter().map(|ty| self.typed_null(*ty)).collect::<Vec<_>>().join(", ")
    }

    fn recursive(&mut self, types: &[Ty], rel: &Rel) -> String {
        let first = self.select(types, false);
        self.frames.push(vec![rel.clone()]);
        let table = self.base_rel(false);
        let joined = match table {
            Some((sql, other)) if self.chance(70) => {
                self.frames[0].push(other);
                let on = self.join_pred();
                format!("{} JOIN {sql} ON {on}", rel.alias)
            }
            _ => rel.alias.clone(),
        };
        let outputs: Vec<String> = types.iter().map(|ty| self.column_or_const(*ty)).collect();
        let filter = self.pred();
        self.frames.pop();
        format!("{first} UNION SELECT {} FROM {joined} WHERE {filter}", outputs.join(", "))
    }

    fn body(&mut self, types: &[Ty]) -> String {
        if !self.spend() {
            return self.select(types, false);
        }
        match self.weighted(&[78, 12, 5, 5]) {
            0 => self.select(types, true),
            1 => {
                let operator = *self.choices.one(&[
                    "UNION ALL",
                    "UNION",
                    "EXCEPT",
                    "INTERSECT",
                    "EXCEPT ALL",
                    "INTERSECT ALL",
                ]);
                let left = self.operand(types);
                let right = self.operand(types);
                let tail = self.tail(types.len());
                format!("{left} {operator} {right}{tail}")
            }
            2 => {
                let rows = 1 + self.pick(3);
                let rows: Vec<String> = (0..rows)
                    .map(|_| {
                        let row: Vec<String> = types.iter().map(|ty| self.typed(*ty)).collect();
                        format!("({})", row.join(", "))
                    })
                    .collect();
                let tail = self.tail(types.len());
                format!("VALUES {}{tail}", rows.join(", "))
            }
            _ => format!("({})", self.query(types, false)),
        }
    }

    fn operand(&mut self, types: &[Ty]) -> String {
        if self.spend() && self.chance(20) {
            format!("({})", self.query(types, false))
        } else {
            self.select(types, false)
        }
    }

    /// ORDER BY every output, and a limit perhaps.
    fn tail(&mut self, width: usize) -> String {
        let ordinals: Vec<String> = (1..=width).map(|n| n.to_string()).collect();
        let order = format!(" ORDER BY {}", ordinals.join(", "));
        match self.weighted(&[80, 6, 8, 3, 3]) {
            0 => String::new(),
            1 => order,
            2 => {
                let limit = match self.pick(6) {
                    0..=2 => (1 + self.pick(4)).to_string(),
                    3 => "(1)".to_owned(),
                    4 if self.spend() => format!("({})", self.count_query()),
                    _ => "ALL".to_owned(),
                };
                format!("{order} LIMIT {limit}")
            }
            3 => format!("{order} OFFSET {}", self.pick(3)),
            _ => {
                let ties = *self.choices.one(&["ONLY", "WITH TIES"]);
                format!("{order} FETCH FIRST {} ROWS {ties}", 1 + self.pick(3))
            }
        }
    }

    fn count_query(&mut self) -> String {
        let frames = std::mem::take(&mut self.frames);
        self.frames.push(Vec::new());
        let (from, _) = self.from();
        let filter = self.filter();
        self.frames = frames;
        format!("SELECT count(*) FROM {from} WHERE {filter}")
    }

    fn select(&mut self, types: &[Ty], with_tail: bool) -> String {
        if self.chance(2) {
            let outputs: Vec<String> = types.iter().map(|ty| self.typed(*ty)).collect();
            return format!("SELECT {}", outputs.join(", "));
        }
        self.frames.push(Vec::new());
        let (from, outer_join) = self.from();
        let filter =
            if self.chance(85) { format!(" WHERE {}", self.filter()) } else { String::new() };
        let rich = self.spend();
        let form = if rich { self.weighted(&[68, 12, 6, 6, 8]) } else { 0 };
        let mut locks = "";
        let (distinct, outputs, rest) = match form {
            1 => self.grouped(types),
            2 => {
                let outputs = types.iter().map(|ty| self.aggregate(*ty)).collect();
                let having = if self.chance(25) { " HAVING count(*) > 1" } else { "" };
                (String::new(), outputs, having.to_owned())
            }
            3 => {
                let outputs = types.iter().map(|ty| self.windowed(*ty)).collect();
                (String::new(), outputs, String::new())
            }
            4 => {
                let on = self.chance(40);
                let outputs = types.iter().map(|ty| self.column_or_const(*ty)).collect();
                let distinct = if on { "DISTINCT ON (1) " } else { "DISTINCT " };
                let order = if on {
                    let all: Vec<String> = (1..=types.len()).map(|n| n.to_string()).collect();
                    format!(" ORDER BY {}", all.join(", "))
                } else {
                    String::new()
                };
                self.frames.pop();
                let outputs: Vec<String> = outputs;
                return format!(
                    "SELECT {distinct}{} FROM {from}{filter}{order}",
                    outputs.join(", ")
                );
            }
            _ => {
                if !outer_join && self.chance(2) {
                    locks = *self.choices.one(&[" FOR UPDATE", " FOR SHARE", " FOR KEY SHARE"]);
                }
                let outputs = types
                    .iter()
                    .map(|ty| {
                        let sql = self.expr(*ty);
                        match self.weighted(&[88, 7, 5]) {
                            0 => sql,
                            1 => format!("{sql} AS {}", self.choices.one(WORDS)),
                            _ => format!("{sql} {}", self.choices.one(WORDS)),
                        }
                    })
                    .collect();
                (String::new(), outputs, String::new())
            }
        };
        self.frames.pop();
        let tail = if with_tail { self.tail(types.len()) } else { String::new() };
        let outputs: Vec<String> = outputs;
        format!("SELECT {distinct}{} FROM {from}{filter}{rest}{tail}{locks}", outputs.join(", "))
    }

    fn grouped(&mut self, types: &[Ty]) -> (String, Vec<String>, String) {
        let mut keys: Vec<(String, Ty)> = Vec::new();
        for ty in types {
            if self.chance(65)
                && let Some(column) = self.column(*ty)
            {
                keys.push((column, *ty));
            }
        }
        if keys.is_empty() {
            let column = self.column(Ty::Int).unwrap_or_else(|| "1 + 1".to_owned());
            keys.push((column, Ty::Int));
        }
        let mut outputs = Vec::new();
        for ty in types {
            let own: Vec<&(String, Ty)> = keys.iter().filter(|(_, t)| t == ty).collect();
            let own = own.first().map(|(sql, _)| sql.clone());
            outputs.push(match own {
                Some(sql) if self.chance(60) => sql,
                _ => self.aggregate(*ty),
            });
        }
        let list: Vec<String> = keys.iter().map(|(sql, _)| sql.clone()).collect();
        let list = list.join(", ");
        let list = match self.weighted(&[84, 6, 5, 5]) {
            0 => list,
            1 => format!("ROLLUP ({list})"),
            2 => format!("CUBE ({list})"),
            _ => format!("GROUPING SETS (({list}), ())"),
        };
        let having = if self.chance(25) {
            let full = self.frames.pop().unwrap_or_default();
            let visible: Vec<Rel> = full
                .iter()
                .map(|rel| Rel {
                    alias: rel.alias.clone(),
                    columns: rel
                        .columns
                        .iter()
                        .filter(|c| {
                            keys.iter().any(|(sql, _)| *sql == format!("{}.{}", rel.alias, c.name))
                        })
                        .cloned()
                        .collect(),
                })
                .collect();
            self.frames.push(visible);
            let pred = self.pred();
            self.frames.pop();
            self.frames.push(full);
            format!(" HAVING {pred}")
        } else {
            String::new()
        };
        (String::new(), outputs, format!(" GROUP BY {list}{having}"))
    }

    fn aggregate(&mut self, ty: Ty) -> String {
        let filter = if self.chance(10) {
            format!(" FILTER (WHERE {})", self.pred())
        } else {
            String::new()
        };
        match ty {
            Ty::Int => match self.pick(5) {
                0 => format!("count(*){filter}"),
                1 => format!("max({}){filter}", self.column_or_const(Ty::Int)),
                2 => format!("min({}){filter}", self.column_or_const(Ty::Int)),
                3 => format!("count(DISTINCT {}){filter}", self.column_or_const(Ty::Int)),
                _ => format!("sum({})::bigint", self.column_or_const(Ty::Int)),
            },
            Ty::Text => match self.pick(3) {
                0 => format!("max({}){filter}", self.column_or_const(Ty::Text)),
                1 => {
                    let column = self.column_or_const(Ty::Text);
                    format!("string_agg({column}, ',' ORDER BY {column}){filter}")
                }
                _ => {
                    let column = self.column_or_const(Ty::Int);
                    format!("array_agg({column} ORDER BY {column})::text")
                }
            },
            Ty::Uuid => format!("(array_agg({0} ORDER BY {0}))[1]", self.column_or_const(Ty::Uuid)),
            Ty::Num => match self.pick(2) {
                0 => format!("sum({}){filter}", self.column_or_const(Ty::Num)),
                _ => format!("max({}){filter}", self.column_or_const(Ty::Num)),
            },
        }
    }

    fn windowed(&mut self, ty: Ty) -> String {
        if ty != Ty::Int || self.chance(40) {
            return self.column_or_const(ty);
        }
        let partition = self.column_or_const(Ty::Int);
        let order = self.column_or_const(Ty::Int);
        match self.pick(4) {
            0 => format!("count(*) OVER (PARTITION BY {partition})"),
            1 => format!("rank() OVER (PARTITION BY {partition} ORDER BY {order})"),
            2 => format!("dense_rank() OVER (ORDER BY {order})"),
            _ => format!("(sum({order}) OVER (ORDER BY {partition}))::bigint"),
        }
    }

    // ---- FROM -----------------------------------------------------------------------------------

    /// FROM of the innermost frame, and whether it has an outer join.
    fn from(&mut self) -> (String, bool) {
        let mut parts = Vec::new();
        let mut outer = false;
        let trees = 1 + usize::from(self.chance(15));
        for _ in 0..trees {
            let before = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
            let (sql, has_outer) = self.join_tree(&before);
            outer |= has_outer;
            parts.push(sql);
            let own = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
            if let Some(frame) = self.frames.last_mut() {
                *frame = before;
                frame.extend(own);
            }
        }
        (parts.join(", "), outer)
    }

    fn join_tree(&mut self, before: &Frame) -> (String, bool) {
        let mut sql = self.from_item(before);
        let mut outer = false;
        let joins = self.weighted(&[55, 30, 12, 3]);
        for _ in 0..joins {
            if !self.spend() {
                break;
            }
            let left = self.frames.last().map_or(0, Vec::len);
            let kind = self.weighted(&[45, 26, 9, 8, 8]);
            let word = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"][kind];
            outer |= (1..=3).contains(&kind);
            let item = if self.chance(8) && left > 0 {
                self.parenthesized_join(before)
            } else {
                self.from_item(before)
            };
            if kind == 4 {
                sql = format!("{sql} CROSS JOIN {item}");
                continue;
            }
            sql = match self.common_columns(left) {
                common if !common.is_empty() && self.chance(18) => {
                    let count = 1 + self.pick(common.len().min(2));
                    format!("{sql} {word} {item} USING ({})", common[..count].join(", "))
                }
                _ if self.chance(3) => format!("{sql} NATURAL {word} {item}"),
                _ => {
                    let on = self.join_pred();
                    format!("{sql} {word} {item} ON {on}")
                }
            };
        }
        (sql, outer)
    }

    fn parenthesized_join(&mut self, before: &Frame) -> String {
        let own = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
        let left = self.from_item(before);
        let right = self.from_item(before);
        let kind = *self.choices.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let on = self.join_pred();
        if let Some(frame) = self.frames.last_mut() {
            let added = std::mem::replace(frame, own);
            frame.extend(added);
        }
        format!("({left} {kind} {right} ON {on})")
    }

    /// Names that the last entry has in common with exactly one of the others.
    fn common_columns(&self, left: usize) -> Vec<String> {
        let Some(frame) = self.frames.last() else { return Vec::new() };
        let Some(last) = frame.last().filter(|_| frame.len() == left + 1) else {
            return Vec::new();
        };
        let others = &frame[..left];
        last.columns
            .iter()
            .filter(|c| {
                let same = others.iter().flat_map(|r| &r.columns).filter(|o| o.name == c.name);
                same.count() == 1
            })
            .map(|c| c.name.clone())
            .collect()
    }

    fn fresh(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    fn column_name(&mut self, index: usize) -> String {
        match self.pick(6) {
            0..=2 => format!("x{index}"),
            3 if index == 0 => "tenant_id".to_owned(),
            4 if index < 2 => ["id", "owner"][index].to_owned(),
            _ => format!("\"Y {index}\""),
        }
    }

    /// An alias that nothing in the innermost frame or before it has.
    fn alias(&mut self, before: &Frame) -> String {
        let pool = ["a", "b", "u", "o", "users", "orders", "\"A b\"", "x", "tenant_id"];
        let alias = if self.chance(25) {
            (*self.choices.one(WORDS)).to_owned()
        } else {
            (*self.choices.one(&pool)).to_owned()
        };
        let taken = |rel: &Rel| rel.alias == alias;
        let frame = self.frames.last();
        if before.iter().any(taken) || frame.is_some_and(|f| f.iter().any(taken)) {
            format!("t{}", self.fresh())
        } else {
            alias
        }
    }

    fn show(&mut self, rel: Rel) {
        if let Some(frame) = self.frames.last_mut() {
            frame.push(rel);
        }
    }

    fn from_item(&mut self, before: &Frame) -> String {
        let kind = if self.spend() { self.weighted(&[66, 10, 13, 5, 6]) } else { 0 };
        match kind {
            1 if !self.ctes.is_empty() => {
                let index = self.pick(self.ctes.len());
                let cte = self.ctes[index].clone();
                let alias = self.alias(before);
                let sql = format!("{} AS {alias}", cte.alias);
                self.show(Rel { alias, columns: cte.columns });
                sql
            }
            2 => self.derived(before),
            3 => {
                let types = self.types();
                let rows = 1 + self.pick(3);
                let rows: Vec<String> = (0..rows)
                    .map(|_| {
                        let row: Vec<String> = types.iter().map(|ty| self.constant(*ty)).collect();
                        format!("({})", row.join(", "))
                    })
                    .collect();
                let (alias, list) = self.listed(before, &types);
                format!("(VALUES {}) AS {alias}({list})", rows.join(", "))
            }
            4 => {
                let (alias, list) = self.listed(before, &[Ty::Int]);
                let function = match self.pick(3) {
                    0 => "generate_series(1, 3)".to_owned(),
                    1 => "unnest(ARRAY[1, 2, NULL])".to_owned(),
                    _ => format!("generate_series({}, 2)", self.pick(3)),
                };
                format!("{function} AS {alias}({list})")
            }
            _ => match self.base_rel_before(true, before) {
                Some((sql, rel)) => {
                    self.show(rel);
                    sql
                }
                None => "users".to_owned(),
            },
        }
    }

    /// An alias with a column list, shown.
    fn listed(&mut self, before: &Frame, types: &[Ty]) -> (String, String) {
        let alias = self.alias(before);
        let columns: Vec<Column> = types
            .iter()
            .enumerate()
            .map(|(i, ty)| Column { name: self.column_name(i), ty: *ty })
            .collect();
        let list: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let list = list.join(", ");
        self.show(Rel { alias: alias.clone(), columns });
        (alias, list)
    }

    fn derived(&mut self, before: &Frame) -> String {
        let types = self.types();
        let lateral = self.chance(25);
        let own = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
        let sql = if lateral {
            if let Some(frame) = self.frames.last_mut() {
                *frame = before.clone();
                frame.extend(own.iter().cloned());
            }
            self.query(&types, false)
        } else {
            let hidden = self.frames.pop();
            let sql = self.query(&types, false);
            self.frames.extend(hidden);
            sql
        };
        if let Some(frame) = self.frames.last_mut() {
            *frame = own;
        }
        let (alias, list) = self.listed(before, &types);
        let lateral = if lateral { "LATERAL " } else { "" };
        format!("{lateral}({sql}) AS {alias}({list})")
    }

    fn base_rel(&mut self, views: bool) -> Option<(String, Rel)> {
        self.base_rel_before(views, &Vec::new())
    }

    fn base_rel_before(&mut self, views: bool, before: &Frame) -> Option<(String, Rel)> {
        let relation = self.relation(!views);
        let hidden = self.ctes.iter().any(|c| c.alias == relation.sql);
        let qualified = if relation.sql.contains('.') {
            relation.sql.to_owned()
        } else if hidden || self.chance(8) {
            format!("public.{}", relation.sql)
        } else {
            relation.sql.to_owned()
        };
        let only = if relation.table && self.chance(2) { "ONLY " } else { "" };
        let mut columns: Vec<Column> = relation
            .columns
            .iter()
            .map(|(name, ty)| Column { name: (*name).to_owned(), ty: *ty })
            .collect();
        let short = relation.short().to_owned();
        let taken = |rel: &Rel| rel.alias == short;
        let collides = before.iter().any(taken)
            || self.frames.last().is_some_and(|frame| frame.iter().any(taken));
        if !collides && self.chance(45) {
            return Some((format!("{only}{qualified}"), Rel { alias: short, columns }));
        }
        let alias = self.alias(before);
        let word = *self.choices.one(&["", "AS "]);
        let mut list = String::new();
        if self.chance(6) {
            let count = 1 + self.pick(columns.len());
            for (index, column) in columns.iter_mut().take(count).enumerate() {
                column.name = format!("r{index}");
            }
            let names: Vec<&str> = columns.iter().take(count).map(|c| c.name.as_str()).collect();
            list = format!("({})", names.join(", "));
        }
        Some((format!("{only}{qualified} {word}{alias}{list}"), Rel { alias, columns }))
    }

    /// A condition of a join: most often an equality of columns of both sides.
    fn join_pred(&mut self) -> String {
        let equality = self.column_pair();
        match (self.weighted(&[60, 18, 14, 4, 4]), equality) {
            (0, Some((a, b))) => format!("{a} = {b}"),
            (1, Some((a, b))) => format!("{a} = {b} AND {}", self.pred()),
            (3, Some((a, b))) => format!("{a} = {b} OR {}", self.pred()),
            (4, Some((a, b))) => format!("{a} IS NOT DISTINCT FROM {b}"),
            _ => self.pred(),
        }
    }

    /// Columns of one type, of the last entry and of another one.
    fn column_pair(&mut self) -> Option<(String, String)> {
        let frame = self.frames.last()?.clone();
        let (last, others) = frame.split_last()?;
        let mut pairs = Vec::new();
        for other in others {
            for a in &last.columns {
                for b in &other.columns {
                    if a.ty != b.ty {
                        continue;
                    }
                    let pair = (
                        format!("{}.{}", last.alias, a.name),
                        format!("{}.{}", other.alias, b.name),
                    );
                    let key = |c: &Column| KEYS.contains(&c.name.as_str());
                    // Keys are joined more often than others.
                    let times = if key(a) && key(b) { 12 } else { 1 };
                    pairs.extend(std::iter::repeat_n(pair, times));
                }
            }
        }
        if pairs.is_empty() { None } else { Some(self.choices.one(&pairs).clone()) }
    }

    // ---- data-modifying statements --------------------------------------------------------------

    fn target(&mut self) -> (&'static Relation, String, Rel) {
        let relation = self.relation(true);
        let columns = relation
            .columns
            .iter()
            .map(|(name, ty)| Column { name: (*name).to_owned(), ty: *ty })
            .collect();
        let (sql, alias) = if self.chance(30) {
            (format!("{} AS tgt", relation.sql), "tgt".to_owned())
        } else {
            (relation.sql.to_owned(), relation.short().to_owned())
        };
        (relation, sql, Rel { alias, columns })
    }

    fn returning(&mut self, rel: &Rel) -> String {
        if self.chance(45) {
            return String::new();
        }
        let columns: Vec<String> =
            rel.columns.iter().map(|c| format!("{}.{}", rel.alias, c.name)).collect();
        format!(" RETURNING {}", columns.join(", "))
    }

    /// A condition for writes: mostly with the key in it, so that some have one shard.
    fn target_pred(&mut self, rel: &Rel) -> String {
        let keys: Vec<Column> = rel
            .columns
            .iter()
            .filter(|c| KEYS.contains(&c.name.as_str()) || rel.alias == "tenants" && c.name == "id")
            .cloned()
            .collect();
        let mut terms = Vec::new();
        for key in keys {
            if self.chance(75) {
                let constant =
                    if self.chance(50) { self.constant(key.ty) } else { self.favourite(key.ty) };
                terms.push(format!("{}.{} = {constant}", rel.alias, key.name));
            }
        }
        if terms.is_empty() || self.chance(55) {
            terms.push(self.pred_in_parentheses());
        }
        terms.join(" AND ")
    }

    fn pred_in_parentheses(&mut self) -> String {
        // Without them the rest may bind otherwise, which is PostgreSQL's to say.
        if self.chance(12) { self.pred() } else { format!("({})", self.pred()) }
    }

    fn update(&mut self) -> String {
        let (relation, sql, rel) = self.target();
        self.frames.push(vec![rel.clone()]);
        let mut sets = Vec::new();
        let count = 1 + self.pick(2);
        for _ in 0..count {
            let (name, ty) =
                relation.columns[relation.columns.len() - 1 - self.pick(relation.columns.len())];
            if sets.iter().any(|s: &String| s.starts_with(&format!("{name} "))) {
                continue;
            }
            let value = match self.pick(6) {
                0 | 1 => self.constant(ty),
                2 => format!("{}.{name}", rel.alias),
                3 => "DEFAULT".to_owned(),
                4 => self.column_or_const(ty),
                _ => self.expr(ty),
            };
            sets.push(format!("{name} = {value}"));
        }
        let from = if self.spend() && self.chance(25) {
            let before = vec![rel.clone()];
            self.frames.push(Vec::new());
            let item = self.from_item(&before);
            let own = self.frames.pop().unwrap_or_default();
            self.frames[0].extend(own);
            format!(" FROM {item}")
        } else {
            String::new()
        };
        let mut filter = self.target_pred(&rel);
        if !from.is_empty()
            && let Some((a, b)) = self.column_pair()
        {
            filter = format!("{filter} AND {a} = {b}");
        }
        self.frames.pop();
        let returning = self.returning(&rel);
        format!("UPDATE {sql} SET {}{from} WHERE {filter}{returning}", sets.join(", "))
    }

    fn delete(&mut self) -> String {
        let (core, rel) = self.delete_core();
        let returning = self.returning(&rel);
        format!("{core}{returning}")
    }

    fn delete_core(&mut self) -> (String, Rel) {
        let (_, sql, rel) = self.target();
        self.frames.push(vec![rel.clone()]);
        let using = if self.spend() && self.chance(25) {
            let before = vec![rel.clone()];
            self.frames.push(Vec::new());
            let item = self.from_item(&before);
            let own = self.frames.pop().unwrap_or_default();
            if let Some(frame) = self.frames.last_mut() {
                frame.extend(own);
            }
            format!(" USING {item}")
        } else {
            String::new()
        };
        let mut filter = self.target_pred(&rel);
        if !using.is_empty()
            && let Some((a, b)) = self.column_pair()
        {
            filter = format!("{filter} AND {a} = {b}");
        }
        self.frames.pop();
        (format!("DELETE FROM {sql}{using} WHERE {filter}"), rel)
    }

    fn insert(&mut self) -> String {
        let (relation, _, _) = self.target();
        let rel = Rel {
            alias: relation.short().to_owned(),
            columns: relation
                .columns
                .iter()
                .map(|(name, ty)| Column { name: (*name).to_owned(), ty: *ty })
                .collect(),
        };
        let mut columns: Vec<(&str, Ty)> = relation.columns.to_vec();
        if self.chance(30) {
            columns.reverse();
        }
        if self.chance(15) {
            let gone = self.pick(columns.len());
            columns.remove(gone);
        }
        let listed = columns != relation.columns || self.chance(60);
        let list = if listed {
            let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            format!(" ({})", names.join(", "))
        } else {
            String::new()
        };
        let types: Vec<Ty> = columns.iter().map(|(_, ty)| *ty).collect();
        let rows = match self.weighted(&[60, 30]) {
            0 => {
                let count = 1 + self.weighted(&[70, 20, 10]);
                let rows: Vec<String> = (0..count)
                    .map(|_| {
                        let row: Vec<String> = types
                            .iter()
                            .map(|ty| {
                                match self.weighted(&[92, 4, 4]) {
                                    0 => self.constant(*ty),
                                    1 => "DEFAULT".to_owned(),
                                    // Assignments cast more than comparisons do.
                                    _ => self.stranger(),
                                }
                            })
                            .collect();
                        format!("({})", row.join(", "))
                    })
                    .collect();
                format!("VALUES {}", rows.join(", "))
            }
            _ => {
                let mut types = types;
                if self.chance(6)
                    && let Some(ty) = types.first_mut()
                {
                    *ty = *self.choices.one(&[Ty::Int, Ty::Text, Ty::Uuid, Ty::Num]);
                }
                self.query(&types, false)
            }
        };
        let unique: Option<&str> = match relation.sql {
            "users" | "orders" => Some("tenant_id, id"),
            "docs" => Some("owner, n"),
            "tenants" => Some("id"),
            "plans" | "app.plans" => Some("id"),
            _ => None,
        };
        let conflict = match unique {
            Some(_) if self.chance(40) => " ON CONFLICT DO NOTHING".to_owned(),
            Some(unique) if self.chance(40) => {
                let (name, ty) = *self.choices.one(relation.columns);
                let value = match self.pick(3) {
                    0 => format!("excluded.{name}"),
                    1 => self.constant(ty),
                    _ => format!("{}.{name}", relation.short()),
                };
                format!(" ON CONFLICT ({unique}) DO UPDATE SET {name} = {value}")
            }
            _ => String::new(),
        };
        let returning = self.returning(&rel);
        format!("INSERT INTO {}{list} {rows}{conflict}{returning}", relation.sql)
    }

    fn merge(&mut self) -> String {
        let (relation, sql, rel) = self.target();
        self.frames.push(Vec::new());
        let before = vec![rel.clone()];
        let source = self.from_item(&before);
        if let Some(frame) = self.frames.last_mut() {
            frame.push(rel.clone());
        }
        let mut on = match self.column_pair() {
            Some((a, b)) => format!("{a} = {b}"),
            None => "true".to_owned(),
        };
        if self.chance(60) {
            let more = self.target_pred(&rel);
            on = format!("{on} AND {more}");
        }
        let mut clauses = String::new();
        if self.chance(70) {
            let (name, ty) = relation.columns[relation.columns.len() - 1];
            clauses.push_str(&match self.pick(3) {
                0 => format!(" WHEN MATCHED THEN UPDATE SET {name} = {}", self.constant(ty)),
                1 => " WHEN MATCHED THEN DELETE".to_owned(),
                _ => format!(" WHEN MATCHED AND {} THEN DELETE", self.pred_in_parentheses()),
            });
        }
        if clauses.is_empty() || self.chance(50) {
            let source_only: Frame = self
                .frames
                .pop()
                .unwrap_or_default()
                .into_iter()
                .filter(|r| r.alias != rel.alias)
                .collect();
            self.frames.push(source_only);
            let values: Vec<String> =
                relation
                    .columns
                    .iter()
                    .map(|(_, ty)| {
                        if self.chance(60) { self.constant(*ty) } else { self.column_or_const(*ty) }
                    })
                    .collect();
            clauses
                .push_str(&format!(" WHEN NOT MATCHED THEN INSERT VALUES ({})", values.join(", ")));
        }
        self.frames.pop();
        format!("MERGE INTO {sql} USING {source} ON {on}{clauses}")
    }

    // ---- predicates -----------------------------------------------------------------------------

    pub(crate) fn pred(&mut self) -> String {
        if !self.spend() {
            return self.key_equality();
        }
        match self.weighted(&[40, 16, 9, 6, 22, 8, 5, 4, 10, 8]) {
            0 => self.key_equality(),
            1 => format!("{} AND {}", self.pred_in_parentheses(), self.pred_in_parentheses()),
            2 => {
                let (a, b) = (self.pred(), self.pred());
                if self.chance(12) { format!("{a} OR {b}") } else { format!("({a} OR {b})") }
            }
            3 => format!("NOT {}", self.pred_in_parentheses()),
            4 => self.atom(),
            5 => self.row_comparison(),
            6 => match self.pick(7) {
                0 => format!("coalesce({}, false)", self.pred()),
                1 => format!("{} IS TRUE", self.pred_in_parentheses()),
                2 => format!("{} IS NOT TRUE", self.pred_in_parentheses()),
                3 => format!("{} IS UNKNOWN", self.pred_in_parentheses()),
                4 => format!(
                    "CASE WHEN {} THEN {} ELSE {} END",
                    self.pred(),
                    self.pred(),
                    self.pred()
                ),
                5 => format!("{} = true", self.pred_in_parentheses()),
                _ => format!("{} <> {}", self.pred_in_parentheses(), self.pred_in_parentheses()),
            },
            7 => {
                (*self.choices.one(&["true", "false", "NULL", "1 = 1", "NULL::boolean"])).to_owned()
            }
            8 => self.exists(),
            _ => self.in_query(),
        }
    }

    fn key_column(&mut self) -> Option<(String, Ty)> {
        let mut found = Vec::new();
        for (depth, frame) in self.frames.iter().rev().enumerate() {
            for rel in frame {
                let hidden = self.frames.iter().rev().take(depth).flatten();
                if hidden.clone().any(|r| r.alias == rel.alias) {
                    continue;
                }
                for column in &rel.columns {
                    let key = KEYS.contains(&column.name.as_str())
                        || column.name == "id" && rel.columns.len() == 3;
                    let times = if depth == 0 { 6 } else { 1 } * if key { 6 } else { 1 };
                    let sql = format!("{}.{}", rel.alias, column.name);
                    found.extend(std::iter::repeat_n((sql, column.ty), times));
                }
            }
        }
        if found.is_empty() { None } else { Some(self.choices.one(&found).clone()) }
    }

    fn key_equality(&mut self) -> String {
        let Some((column, ty)) = self.key_column() else { return "true".to_owned() };
        let constant = self.constant(ty);
        if self.chance(8) {
            format!("{constant} = {column}")
        } else {
            format!("{column} = {constant}")
        }
    }

    fn atom(&mut self) -> String {
        let Some((column, ty)) = self.key_column() else { return "true".to_owned() };
        match self.pick(19) {
            0 => {
                let list = self.constants(ty, 3);
                let not = if self.chance(25) { "NOT " } else { "" };
                format!("{column} {not}IN ({})", list.join(", "))
            }
            1 => {
                let list = self.constants(ty, 3);
                format!("{column} = ANY (ARRAY[{}])", list.join(", "))
            }
            2 => {
                let array = self.array(ty);
                format!("{column} = ANY ({array})")
            }
            3 => format!("{column} BETWEEN {} AND {}", self.constant(ty), self.constant(ty)),
            4 => {
                let operator = *self.choices.one(&["<", "<=", ">", ">=", "<>"]);
                format!("{column} {operator} {}", self.constant(ty))
            }
            5 => {
                let not = if self.chance(50) { "NOT " } else { "" };
                format!("{column} IS {not}NULL")
            }
            6 => {
                let not = if self.chance(70) { "NOT " } else { "" };
                format!("{column} IS {not}DISTINCT FROM {}", self.constant(ty))
            }
            7 => format!("{} = {}", self.expr(ty), self.expr(ty)),
            8 => match self.column(ty) {
                Some(other) => format!("{column} = {other}"),
                None => "true".to_owned(),
            },
            9 => {
                let list = self.constants(ty, 2);
                let word = *self.choices.one(&["= ALL", "<> ALL", "<> ANY", "> ANY", "<= ALL"]);
                format!("{column} {word} (ARRAY[{}])", list.join(", "))
            }
            10 => {
                let not = if self.chance(50) { "NOT " } else { "" };
                format!(
                    "{column} {not}BETWEEN SYMMETRIC {} AND {}",
                    self.constant(ty),
                    self.constant(ty)
                )
            }
            11 => format!("NOT ({column} <> {})", self.constant(ty)),
            12 => match ty {
                Ty::Int => format!("{column} + 0 = {}", self.constant(ty)),
                Ty::Text => format!("{column} LIKE {}", self.constant(ty)),
                Ty::Uuid | Ty::Num => format!("coalesce({column}, NULL) = {}", self.constant(ty)),
            },
            13 => format!("coalesce({column}, {0}) = {0}", self.constant(ty)),
            14 => format!("CASE {column} WHEN {} THEN true END", self.constant(ty)),
            15 => format!("{column} = {} AND {column} = {}", self.constant(ty), self.constant(ty)),
            16 => format!("{column}::text = {}::text", self.constant(ty)),
            17 => match ty {
                Ty::Text => format!("{column} COLLATE \"C\" = {}", self.constant(ty)),
                _ => format!("({column}) IN ({})", self.constant(ty)),
            },
            _ => match ty {
                Ty::Text => {
                    let operator = *self.choices.one(&["~", "~*", "^@", "LIKE", "ILIKE"]);
                    format!("{column} {operator} {}", self.constant(ty))
                }
                _ => format!("{column}>={}", self.constant(ty)),
            },
        }
    }

    fn constants(&mut self, ty: Ty, most: usize) -> Vec<String> {
        let count = 1 + self.pick(most);
        (0..count).map(|_| self.constant(ty)).collect()
    }

    fn row_comparison(&mut self) -> String {
        let (Some((a, a_ty)), Some((b, b_ty))) = (self.key_column(), self.key_column()) else {
            return "true".to_owned();
        };
        match self.pick(7) {
            0 | 1 => format!("({a}, {b}) = ({}, {})", self.constant(a_ty), self.constant(b_ty)),
            2 => format!(
                "({a}, {b}) IN (({}, {}), ({}, {}))",
                self.constant(a_ty),
                self.constant(b_ty),
                self.constant(a_ty),
                self.constant(b_ty)
            ),
            3 => {
                let operator = *self.choices.one(&["<", "<=", ">", ">=", "<>"]);
                format!("({a}, {b}) {operator} ({}, {})", self.constant(a_ty), self.constant(b_ty))
            }
            4 => {
                let query = self.sub_query(&[a_ty, b_ty]);
                let not = if self.chance(30) { "NOT " } else { "" };
                format!("({a}, {b}) {not}IN ({query})")
            }
            5 => {
                let query = self.sub_query(&[a_ty, b_ty]);
                format!("({a}, {b}) = ({query})")
            }
            _ => format!("ROW({a}, {b}) = ROW({}, {})", self.constant(a_ty), self.constant(b_ty)),
        }
    }

    fn sub_query(&mut self, types: &[Ty]) -> String {
        if self.spend() { self.query(types, false) } else { self.select(types, false) }
    }

    fn exists(&mut self) -> String {
        let not = if self.chance(35) { "NOT " } else { "" };
        let query = self.sub_query(&[Ty::Int]);
        format!("{not}EXISTS ({query})")
    }

    fn in_query(&mut self) -> String {
        let Some((column, ty)) = self.key_column() else { return "true".to_owned() };
        let query = self.sub_query(&[ty]);
        match self.weighted(&[40, 20, 12, 10, 6, 6]) {
            0 => format!("{column} IN ({query})"),
            1 => format!("{column} NOT IN ({query})"),
            2 => format!("{column} = ({query})"),
            3 => format!("{column} = ANY ({query})"),
            4 => format!("{column} <> ALL ({query})"),
            _ => format!("{column} > ANY ({query})"),
        }
    }

    // ---- expressions ----------------------------------------------------------------------------

    /// A column of this type that can be seen.
    fn column(&mut self, ty: Ty) -> Option<String> {
        let mut found = Vec::new();
        for (depth, frame) in self.frames.iter().rev().enumerate() {
            for rel in frame {
                let hidden = self.frames.iter().rev().take(depth).flatten();
                if hidden.clone().any(|r| r.alias == rel.alias) {
                    continue;
                }
                for column in rel.columns.iter().filter(|c| c.ty == ty) {
                    let times = if depth == 0 { 4 } else { 1 };
                    let unique = depth == 0
                        && self
                            .frames
                            .iter()
                            .flatten()
                            .flat_map(|r| &r.columns)
                            .filter(|c| c.name == column.name)
                            .count()
                            == 1;
                    let sql = if unique && rel.alias.len() % 2 == 0 {
                        column.name.clone()
                    } else {
                        format!("{}.{}", rel.alias, column.name)
                    };
                    found.extend(std::iter::repeat_n(sql, times));
                }
            }
        }
        if found.is_empty() { None } else { Some(self.choices.one(&found).clone()) }
    }

    fn column_or_const(&mut self, ty: Ty) -> String {
        if self.chance(88)
            && let Some(column) = self.column(ty)
        {
            return column;
        }
        self.typed(ty)
    }

    fn expr(&mut self, ty: Ty) -> String {
        if !self.spend() {
            return self.column_or_const(ty);
        }
        match self.weighted(&[66, 8, 5, 7, 5, 9]) {
            0 => self.column_or_const(ty),
            1 => self.typed(ty),
            2 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.pred(),
                self.column_or_const(ty),
                self.column_or_const(ty)
            ),
            3 => format!("coalesce({}, {})", self.column_or_const(ty), self.column_or_const(ty)),
            4 => match ty {
                Ty::Int => format!("({} + 0)", self.column_or_const(ty)),
                Ty::Text => {
                    let function = *self.choices.one(&["lower", "upper", "trim"]);
                    format!("{function}({})", self.column_or_const(ty))
                }
                Ty::Uuid => self.column_or_const(ty),
                Ty::Num => format!("({} * 2)", self.column_or_const(ty)),
            },
            _ => {
                self.frames.push(Vec::new());
                let (from, _) = self.from();
                let filter = self.filter();
                let output =
                    if self.chance(80) { self.aggregate(ty) } else { self.column_or_const(ty) };
                self.frames.pop();
                format!("(SELECT {output} FROM {from} WHERE {filter})")
            }
        }
    }

    /// A constant whose type is not left to the context.
    fn typed(&mut self, ty: Ty) -> String {
        match ty {
            Ty::Int => match self.pick(3) {
                0 | 1 => self.int().to_string(),
                _ => self.typed_null(ty),
            },
            Ty::Text => format!("{}::text", quoted(self.text())),
            Ty::Uuid => format!("{}::uuid", quoted(self.uuid())),
            Ty::Num => format!("{}.5", self.pick(4)),
        }
    }

    fn typed_null(&mut self, ty: Ty) -> String {
        match ty {
            Ty::Int => "NULL::bigint",
            Ty::Text => "NULL::text",
            Ty::Uuid => "NULL::uuid",
            Ty::Num => "NULL::numeric",
        }
        .to_owned()
    }

    fn array(&mut self, ty: Ty) -> String {
        let count = 1 + self.pick(3);
        if self.with_params && self.chance(40) {
            let value = match ty {
                Ty::Int | Ty::Num => Value::Ints(
                    (0..count)
                        .map(|_| if self.chance(10) { None } else { Some(self.int()) })
                        .collect(),
                ),
                Ty::Text => Value::Texts(
                    (0..count)
                        .map(|_| {
                            let null = self.chance(10);
                            let text = self.text();
                            (!null).then(|| text.to_owned())
                        })
                        .collect(),
                ),
                Ty::Uuid => {
                    Value::Texts((0..count).map(|_| Some(self.uuid().to_owned())).collect())
                }
            };
            let oids: &[u32] = match ty {
                Ty::Int | Ty::Num => &[0, 1016, 1007, 1005, 1231, 1022],
                Ty::Text => &[0, 1009, 1015, 1014, 1003],
                Ty::Uuid => &[0, 2951],
            };
            let oid = *self.choices.one(oids);
            let binary = self.chance(50);
            return self.param(Parameter { oid, binary, value });
        }
        let elements: Vec<String> = (0..count)
            .map(|_| match ty {
                _ if self.chance(8) => "NULL".to_owned(),
                Ty::Int | Ty::Num => self.int().to_string(),
                Ty::Text => {
                    let text = self.text();
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
                Ty::Uuid => self.uuid().to_owned(),
            })
            .collect();
        let literal = quoted(&format!("{{{}}}", elements.join(",")));
        let cast = match ty {
            Ty::Int => {
                *self.choices.one(&["", "::bigint[]", "::int[]", "::smallint[]", "::numeric[]"])
            }
            Ty::Text => *self.choices.one(&["", "::text[]", "::varchar[]"]),
            Ty::Uuid => *self.choices.one(&["", "::uuid[]"]),
            Ty::Num => "",
        };
        format!("{literal}{cast}")
    }

    fn param(&mut self, parameter: Parameter) -> String {
        // The same value again may be the same parameter.
        if !self.params.is_empty() && self.chance(10) {
            return format!("${}", 1 + self.pick(self.params.len()));
        }
        self.params.push(parameter);
        format!("${}", self.params.len())
    }

    /// A constant in one of the many ways to write it.
    fn constant(&mut self, ty: Ty) -> String {
        if self.with_params && self.chance(40) {
            return self.param_of(ty);
        }
        if self.chance(3) {
            return "NULL".to_owned();
        }
        match ty {
            Ty::Int => {
                let n = self.int();
                match self.weighted(&[
                    60, 6, 4, 4, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1, 2, 2, 1, 2, 1, 1, 2, 1, 1, 1,
                ]) {
                    0 => n.to_string(),
                    1 => format!("'{n}'"),
                    2 => format!("{n}.0"),
                    3 => format!("{n}::bigint"),
                    4 => format!("'{n}'::int"),
                    5 => format!("CAST('{n}' AS smallint)"),
                    6 => format!("bigint '{n}'"),
                    7 => format!("+{}", n.abs()),
                    8 => format!("({n} + 0)"),
                    9 => format!("{n}::numeric"),
                    10 => format!("({n})"),
                    11 => format!("'{n}'::text::bigint"),
                    12 => format!("' {n} '"),
                    13 => format!("E'{n}'"),
                    14 => "1.5".to_owned(),
                    15 => format!("{}.4::bigint", n.abs()),
                    16 => "9223372036854775808".to_owned(),
                    17 => format!("{}e0", n.abs()),
                    18 => format!("$${n}$$"),
                    19 => "3000000000".to_owned(),
                    20 => format!("(SELECT {n})"),
                    21 => format!("-{}", n.abs()),
                    22 => format!("'{n}'::numeric"),
                    _ => format!("{n}::float8"),
                }
            }
            Ty::Text => {
                let text = self.text();
                let plain = quoted(text);
                match self.weighted(&[60, 5, 5, 4, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2]) {
                    0 => plain,
                    1 => format!("{plain}::text"),
                    2 => format!("{plain}::varchar"),
                    3 => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
                    4 => format!("$q${text}$q$"),
                    5 => format!("{plain}::varchar(2)"),
                    6 => format!("{plain}::char(5)"),
                    7 => format!("({plain} || '')"),
                    8 => format!("{plain}::name"),
                    9 => format!("CAST({plain} AS text)"),
                    10 => format!("upper({plain})"),
                    11 => format!("U&{}", plain.replace('\\', "\\\\")),
                    12 => format!("{plain}::bpchar"),
                    _ => format!("text {plain}"),
                }
            }
            Ty::Uuid => {
                let text = self.uuid();
                match self.weighted(&[50, 10, 8, 8, 8, 4]) {
                    0 => quoted(text),
                    1 => format!("{}::uuid", quoted(text)),
                    2 => quoted(&text.to_uppercase()),
                    3 => quoted(&format!("{{{text}}}")),
                    4 => quoted(&text.replace('-', "")),
                    _ => format!("{}::text::uuid", quoted(text)),
                }
            }
            Ty::Num => match self.pick(3) {
                0 => format!("{}.5", self.pick(4)),
                1 => self.int().to_string(),
                _ => "'1.50'".to_owned(),
            },
        }
    }

    /// A constant of any type.
    fn stranger(&mut self) -> String {
        let ty = *self.choices.one(&[Ty::Int, Ty::Text, Ty::Uuid, Ty::Num]);
        if self.chance(50) { self.typed(ty) } else { self.constant(ty) }
    }

    fn param_of(&mut self, ty: Ty) -> String {
        let null = self.chance(5);
        let (value, oids): (Value, &[u32]) = match ty {
            Ty::Int => (Value::Int(self.int()), &[0, 20, 23, 21, 1700, 0, 20, 705, 701, 26]),
            Ty::Text => (Value::Text(self.text().to_owned()), &[0, 25, 1043, 0, 1042, 705, 19]),
            Ty::Uuid => (Value::Text(self.uuid().to_owned()), &[0, 2950]),
            Ty::Num => (Value::Int(self.int()), &[0, 1700]),
        };
        let oid = *self.choices.one(oids);
        let binary = self.chance(50);
        let value = if null { Value::Null } else { value };
        let name = self.param(Parameter { oid, binary, value });
        match self.pick(12) {
            0 if ty == Ty::Int => format!("{name}::bigint"),
            1 if ty == Ty::Int => format!("{name}::int"),
            2 if ty == Ty::Text => format!("{name}::text"),
            3 if ty == Ty::Text => format!("{name}::varchar"),
            _ => name,
        }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
