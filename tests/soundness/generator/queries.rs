//! Queries: WITH, SELECT, set operations, VALUES, grouping, windows.

use super::{Column, Generator, Rel};
use crate::words::WORDS;
use crate::world::Ty;

impl Generator<'_> {
    /// A query without parentheses around it.
    pub(super) fn query(&mut self, types: &[Ty], top: bool) -> String {
        let kept = self.ctes.len();
        let with = if self.spend() && self.chance(14) { self.with() } else { String::new() };
        let body = self.body(types);
        self.ctes.truncate(kept);
        let _ = top;
        format!("{with}{body}")
    }

    pub(super) fn with(&mut self) -> String {
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
            if !recursive && self.chance(25) {
                let (query, columns) = self.named();
                self.frames = frames;
                parts.push(format!("{name} AS {materialized}({query})"));
                self.ctes.push(Rel { alias: name, columns });
                continue;
            }
            let query = if recursive && self.chance(60) {
                self.recursive(&types, &rel)
            } else if self.chance(4) {
                self.writes = true;
                let outer = std::mem::take(&mut self.budget);
                self.budget = 3;
                let sql = format!("{} RETURNING {}", self.delete_core().0, Self::nulls(&types));
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

    /// A query with the columns' own names: stars, plain columns, aliases.
    pub(super) fn named(&mut self) -> (String, Vec<Column>) {
        self.frames.push(Vec::new());
        let (from, _) = self.from();
        let filter =
            if self.chance(70) { format!(" WHERE {}", self.filter()) } else { String::new() };
        let frame = self.frames.last().cloned().unwrap_or_default();
        let rels: Vec<&Rel> =
            frame.iter().filter(|r| !r.alias.is_empty() && !r.columns.is_empty()).collect();
        let all = || -> Vec<Column> {
            let merged = frame.iter().filter(|r| r.alias.is_empty()).flat_map(|r| &r.columns);
            let merged: Vec<Column> = merged.cloned().collect();
            let is_merged = |c: &Column| merged.iter().any(|m| m.name == c.name);
            let rest = rels.iter().flat_map(|r| &r.columns).filter(|c| !is_merged(c));
            let list: Vec<Column> = merged.iter().chain(rest).cloned().collect();
            let once = |c: &&Column| list.iter().filter(|o| o.name == c.name).count() == 1;
            list.iter().filter(once).cloned().collect()
        };
        let result = match self.weighted(&[35, 20, 25, 20]) {
            1 if !rels.is_empty() => {
                let rel = rels[self.pick(rels.len())];
                (format!("SELECT {}.* FROM {from}{filter}", rel.alias), rel.columns.clone())
            }
            2 | 3 if !rels.is_empty() => {
                let rel = rels[self.pick(rels.len())].clone();
                let count = 1 + self.pick(rel.columns.len());
                let mut columns: Vec<Column> = rel.columns[..count].to_vec();
                let mut outputs: Vec<String> = columns.iter().map(|c| rel.column(c)).collect();
                if self.chance(40) {
                    // An alias that is another column's name, perhaps.
                    let name =
                        (*self.choices.one(&["tenant_id", "id", "x", "name", "owner"])).to_owned();
                    if !columns.iter().any(|c| c.name == name) {
                        outputs[0] = format!("{} AS {name}", outputs[0]);
                        columns[0].name = name;
                    }
                }
                let rest = match self.pick(4) {
                    0 => String::new(),
                    1 => {
                        let ordinals: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
                        format!(" GROUP BY {}", ordinals.join(", "))
                    }
                    2 => {
                        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                        format!(" GROUP BY {}", names.join(", "))
                    }
                    _ => self.tail(count),
                };
                (format!("SELECT {} FROM {from}{filter}{rest}", outputs.join(", ")), columns)
            }
            _ => {
                let distinct = if self.chance(10) { "DISTINCT " } else { "" };
                (format!("SELECT {distinct}* FROM {from}{filter}"), all())
            }
        };
        self.frames.pop();
        result
    }

    pub(super) fn nulls(types: &[Ty]) -> String {
        types.iter().map(|ty| Self::typed_null(*ty)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn recursive(&mut self, types: &[Ty], rel: &Rel) -> String {
        let first = self.select(types, false);
        self.frames.push(vec![rel.clone()]);
        let table = self.base_rel(false);
        let joined = if self.chance(70) {
            let (sql, other) = table;
            self.frames[0].push(other);
            let on = self.join_pred();
            format!("{} JOIN {sql} ON {on}", rel.alias)
        } else {
            rel.alias.clone()
        };
        let outputs: Vec<String> = types.iter().map(|ty| self.column_or_const(*ty)).collect();
        let filter = self.pred();
        self.frames.pop();
        format!("{first} UNION SELECT {} FROM {joined} WHERE {filter}", outputs.join(", "))
    }

    pub(super) fn body(&mut self, types: &[Ty]) -> String {
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

    pub(super) fn operand(&mut self, types: &[Ty]) -> String {
        if self.spend() && self.chance(20) {
            format!("({})", self.query(types, false))
        } else {
            self.select(types, false)
        }
    }

    /// ORDER BY every output, and a limit perhaps.
    pub(super) fn tail(&mut self, width: usize) -> String {
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

    pub(super) fn count_query(&mut self) -> String {
        let frames = std::mem::take(&mut self.frames);
        self.frames.push(Vec::new());
        let (from, _) = self.from();
        let filter = self.filter();
        self.frames = frames;
        format!("SELECT count(*) FROM {from} WHERE {filter}")
    }

    pub(super) fn select(&mut self, types: &[Ty], with_tail: bool) -> String {
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
                // Which rows it takes is said by an ORDER BY, which is the whole's behind an operand of UNION.
                let on = self.chance(40) && with_tail;
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
                        if *ty == Ty::Int && self.chance(2) {
                            return "generate_series(1, 2)".to_owned();
                        }
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

    pub(super) fn grouped(&mut self, types: &[Ty]) -> (String, Vec<String>, String) {
        let mut keys: Vec<(String, Ty)> = Vec::new();
        for ty in types {
            if self.chance(65)
                && let Some(column) = self.column(*ty)
            {
                keys.push((column, *ty));
            }
        }
        // Before version 18 it is a matter of the plan whether PostgreSQL shows a constant or NULL for a
        // grouping set that does not have it.
        let mut constant = false;
        if keys.is_empty() {
            let column = self.column(Ty::Int);
            constant = column.is_none();
            keys.push((column.unwrap_or_else(|| "1 + 1".to_owned()), Ty::Int));
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
            _ if constant => list,
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

    pub(super) fn aggregate(&mut self, ty: Ty) -> String {
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

    pub(super) fn windowed(&mut self, ty: Ty) -> String {
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
}
