//! FROM: tables, joins, derived tables, functions, aliases.

use super::{Column, Frame, Generator, Rel};
use crate::words::WORDS;
use crate::world::{KEYS, Ty};

impl Generator<'_> {
    /// FROM of the innermost frame, and whether it has an outer join.
    pub(super) fn from(&mut self) -> (String, bool) {
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

    pub(super) fn join_tree(&mut self, before: &Frame) -> (String, bool) {
        let mut sql = self.entry(before);
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
                self.entry(before)
            };
            if kind == 4 {
                sql = format!("{sql} CROSS JOIN {item}");
                continue;
            }
            sql = match self.common_columns(left) {
                common if !common.is_empty() && self.chance(18) => {
                    let count = 1 + self.pick(common.len().min(2));
                    self.merge_columns(&common[..count]);
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

    pub(super) fn parenthesized_join(&mut self, before: &Frame) -> String {
        let own = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
        let left = self.entry(before);
        let right = self.entry(before);
        let kind = *self.choices.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let on = self.join_pred();
        if let Some(frame) = self.frames.last_mut() {
            let added = std::mem::replace(frame, own);
            frame.extend(added);
        }
        format!("({left} {kind} {right} ON {on})")
    }

    /// What USING merges can be named without a qualifier.
    fn merge_columns(&mut self, names: &[String]) {
        let Some(frame) = self.frames.last_mut() else { return };
        let merged: Vec<Column> = frame
            .iter()
            .flat_map(|rel| &rel.columns)
            .filter(|c| names.contains(&c.name))
            .map(|c| (c.name.clone(), c.clone()))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_values()
            .collect();
        frame.insert(0, Rel { alias: String::new(), columns: merged });
    }

    /// Names that the last entry has in common with exactly one of the others.
    pub(super) fn common_columns(&self, left: usize) -> Vec<String> {
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

    pub(super) fn fresh(&mut self) -> usize {
        self.names += 1;
        self.names
    }

    pub(super) fn column_name(&mut self, index: usize) -> String {
        match self.pick(6) {
            0..=2 => format!("x{index}"),
            3 if index == 0 => "tenant_id".to_owned(),
            4 if index < 2 => ["id", "owner"][index].to_owned(),
            _ => format!("\"Y {index}\""),
        }
    }

    /// An alias that nothing in the innermost frame or before it has.
    pub(super) fn alias(&mut self, before: &Frame) -> String {
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

    pub(super) fn show(&mut self, rel: Rel) {
        if let Some(frame) = self.frames.last_mut() {
            frame.push(rel);
        }
    }

    pub(super) fn entry(&mut self, before: &Frame) -> String {
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
            _ => {
                let (sql, rel) = self.base_rel_before(true, before);
                self.show(rel);
                sql
            }
        }
    }

    /// An alias with a column list, shown.
    pub(super) fn listed(&mut self, before: &Frame, types: &[Ty]) -> (String, String) {
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

    pub(super) fn derived(&mut self, before: &Frame) -> String {
        if self.chance(30) {
            return self.derived_by_name(before);
        }
        let types = self.types();
        let lateral = self.chance(25);
        let own = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
        let sql = if lateral {
            if let Some(frame) = self.frames.last_mut() {
                frame.clone_from(before);
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

    /// A sub-select whose columns have the names that PostgreSQL gives them.
    fn derived_by_name(&mut self, before: &Frame) -> String {
        let lateral = self.chance(15);
        let own = self.frames.last_mut().map(std::mem::take).unwrap_or_default();
        let hidden = if lateral { None } else { self.frames.pop() };
        if lateral && let Some(frame) = self.frames.last_mut() {
            frame.clone_from(before);
            frame.extend(own.iter().cloned());
        }
        let (sql, columns) = self.named();
        self.frames.extend(hidden);
        if let Some(frame) = self.frames.last_mut() {
            *frame = own;
        }
        let alias = self.alias(before);
        let word = if lateral { "LATERAL " } else { "" };
        let sql = format!("{word}({sql}) AS {alias}");
        self.show(Rel { alias, columns });
        sql
    }

    pub(super) fn base_rel(&mut self, views: bool) -> (String, Rel) {
        self.base_rel_before(views, &Vec::new())
    }

    pub(super) fn base_rel_before(&mut self, views: bool, before: &Frame) -> (String, Rel) {
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
            return (format!("{only}{qualified}"), Rel { alias: short, columns });
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
        (format!("{only}{qualified} {word}{alias}{list}"), Rel { alias, columns })
    }

    /// A condition of a join: most often an equality of columns of both sides.
    pub(super) fn join_pred(&mut self) -> String {
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
    pub(super) fn column_pair(&mut self) -> Option<(String, String)> {
        let frame = self.frames.last()?.clone();
        let (last, others) = frame.split_last()?;
        let mut pairs = Vec::new();
        for other in others {
            for a in &last.columns {
                for b in &other.columns {
                    if a.ty != b.ty {
                        continue;
                    }
                    let pair = (last.column(a), other.column(b));
                    let key = |c: &Column| KEYS.contains(&c.name.as_str());
                    // Keys are joined more often than others.
                    let times = if key(a) && key(b) { 12 } else { 1 };
                    pairs.extend(std::iter::repeat_n(pair, times));
                }
            }
        }
        if pairs.is_empty() { None } else { Some(self.choices.one(&pairs).clone()) }
    }
}
