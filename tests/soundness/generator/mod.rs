//! Statements: everything that PostgreSQL's grammar allows near keys, from a list of choices.
//!
//! Results must not depend on PostgreSQL's freedom: where rows are picked (LIMIT, DISTINCT ON, windows,
//! ordered aggregates) they are in a total order, up to equal rows.

mod from;
mod predicates;
mod queries;
mod values;
mod writes;

use crate::choices::Choices;
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

impl Rel {
    /// A column of it; merged ones (USING) have no qualifier.
    fn column(&self, column: &Column) -> String {
        if self.alias.is_empty() {
            column.name.clone()
        } else {
            format!("{}.{}", self.alias, column.name)
        }
    }
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
    let sql = generator.disguise(sql);
    // A part that writes may have been given up again; a disguise may have changed the case.
    let upper = sql.to_ascii_uppercase();
    let there = ["INSERT", "UPDATE", "DELETE", "MERGE"].iter().any(|word| upper.contains(word));
    let (params, writes) = (generator.params, generator.writes && there);
    Generated { sql, params, writes }
}

impl Generator<'_> {
    pub(super) fn pick(&mut self, n: usize) -> usize {
        self.choices.pick(n)
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.choices.chance(percent)
    }

    pub(super) fn weighted(&mut self, weights: &[usize]) -> usize {
        self.choices.weighted(weights)
    }

    pub(super) fn int(&mut self) -> i64 {
        let index = self.pick(2 * INTS.len());
        INTS.get(index).copied().unwrap_or(INTS[self.favourites[0]])
    }

    pub(super) fn text(&mut self) -> &'static str {
        let index = self.pick(2 * TEXTS.len());
        TEXTS.get(index).copied().unwrap_or(TEXTS[self.favourites[1]])
    }

    pub(super) fn uuid(&mut self) -> &'static str {
        let index = self.pick(2 * UUIDS.len());
        UUIDS.get(index).copied().unwrap_or(UUIDS[self.favourites[2]])
    }

    pub(super) fn favourite(&self, ty: Ty) -> String {
        match ty {
            Ty::Int | Ty::Num => INTS[self.favourites[0]].to_string(),
            Ty::Text => quoted(TEXTS[self.favourites[1]]),
            Ty::Uuid => quoted(UUIDS[self.favourites[2]]),
        }
    }

    /// Relations of the family, or any.
    pub(super) fn relation(&mut self, tables_only: bool) -> &'static Relation {
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
                references[self.pick(references.len())]
            }
        }
    }

    /// Every table of the innermost frame with the favourite key.
    pub(super) fn pinned(&mut self) -> Option<String> {
        let mut terms = Vec::new();
        for rel in self.frames.last()? {
            for column in &rel.columns {
                let key = KEYS.contains(&column.name.as_str())
                    || rel.columns.len() == 3
                        && column.name == "id"
                        && rel.columns[2].name == "plan_id";
                if key {
                    terms.push(format!("{} = {}", rel.column(column), self.favourite(column.ty)));
                }
            }
        }
        if terms.is_empty() { None } else { Some(terms.join(" AND ")) }
    }

    /// A condition for WHERE.
    pub(super) fn filter(&mut self) -> String {
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
    pub(super) fn spend(&mut self) -> bool {
        self.budget -= 1;
        self.budget > 0
    }

    /// The same statement in another hand: blanks, comments, letters.
    fn disguise(&mut self, sql: String) -> String {
        const HANDS: &[(&str, &str)] = &[
            (" = ", "="),
            (" = ", " /* it's */ = "),
            (" = ", "-- it's\n="),
            (", ", ","),
            (" AND ", "\nAND -- ; /*\n"),
            (" FROM ", " /* /* nested */ ' */ FROM\t"),
            (" WHERE ", "\r\nWHERE\u{c}"),
            (" ON ", " on--\"\n"),
            ("SELECT ", "select/**/"),
        ];
        match self.weighted(&[80, 12, 4, 4]) {
            1 => {
                let (from, to) = *self.choices.one(HANDS);
                sql.replace(from, to)
            }
            2 if !sql.contains('"') => sql.to_lowercase(),
            3 if !sql.contains('"') && sql.is_ascii() => sql.to_ascii_uppercase(),
            _ => sql,
        }
    }

    pub(super) fn statement(&mut self) -> String {
        match self.weighted(&[60, 9, 8, 12, 5]) {
            0 if self.chance(8) => self.named().0,
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

    pub(super) fn with_before(&mut self, make: fn(&mut Self) -> String) -> String {
        self.writes = true;
        let kept = self.ctes.len();
        let with = if self.chance(8) { self.with() } else { String::new() };
        let made = make(self);
        self.ctes.truncate(kept);
        format!("{with}{made}")
    }

    pub(super) fn types(&mut self) -> Vec<Ty> {
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
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
