//! Predicates.

use super::Generator;
use crate::world::{KEYS, Ty};

impl Generator<'_> {
    pub(super) fn pred(&mut self) -> String {
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

    pub(super) fn key_column(&mut self) -> Option<(String, Ty)> {
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
                    let same = frame.iter().flat_map(|r| &r.columns);
                    let unique = depth == 0 && same.filter(|c| c.name == column.name).count() == 1;
                    let sql = if unique && rel.alias.len() % 3 == 0 {
                        column.name.clone()
                    } else {
                        rel.column(column)
                    };
                    found.extend(std::iter::repeat_n((sql, column.ty), times));
                }
            }
        }
        if found.is_empty() { None } else { Some(self.choices.one(&found).clone()) }
    }

    pub(super) fn key_equality(&mut self) -> String {
        let Some((column, ty)) = self.key_column() else { return "true".to_owned() };
        let constant = self.constant(ty);
        if self.chance(8) {
            format!("{constant} = {column}")
        } else {
            format!("{column} = {constant}")
        }
    }

    pub(super) fn atom(&mut self) -> String {
        let Some((column, ty)) = self.key_column() else { return "true".to_owned() };
        match self.pick(20) {
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
            19 => {
                let Some(rel) = self.frames.last().and_then(|f| f.first()).cloned() else {
                    return "true".to_owned();
                };
                if rel.alias.is_empty() || rel.columns.is_empty() {
                    return "true".to_owned();
                }
                match self.pick(4) {
                    0 => format!("{} IS NOT NULL", rel.alias),
                    1 => format!("{}.* IS NOT NULL", rel.alias),
                    2 => format!(
                        "{0}::text <> '' AND ({0}).{1} IS NOT NULL",
                        rel.alias, rel.columns[0].name
                    ),
                    _ => format!("{0} = {0}", rel.alias),
                }
            }
            _ => match ty {
                Ty::Text => {
                    let operator = *self.choices.one(&["~", "~*", "^@", "LIKE", "ILIKE"]);
                    format!("{column} {operator} {}", self.constant(ty))
                }
                _ => format!("{column}>={}", self.constant(ty)),
            },
        }
    }

    pub(super) fn constants(&mut self, ty: Ty, most: usize) -> Vec<String> {
        let count = 1 + self.pick(most);
        (0..count).map(|_| self.constant(ty)).collect()
    }

    pub(super) fn row_comparison(&mut self) -> String {
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

    pub(super) fn sub_query(&mut self, types: &[Ty]) -> String {
        if self.spend() { self.query(types, false) } else { self.select(types, false) }
    }

    pub(super) fn exists(&mut self) -> String {
        let not = if self.chance(35) { "NOT " } else { "" };
        let query = self.sub_query(&[Ty::Int]);
        format!("{not}EXISTS ({query})")
    }

    pub(super) fn in_query(&mut self) -> String {
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
}
