//! What the shards can do beforehand for a statement over scratch tables: apply WHERE, sort and cut off, add up.
//!
//! Main type: [`Single`], a SELECT from one sharded table and nothing else; [`Single::push`] finds the clauses
//! in the text of one execution, by its tokens. Then
//!
//! * WHERE goes along with what is fetched, as it is written (it speaks of that table alone);
//! * of `ORDER BY … LIMIT n OFFSET m` each shard gives its first n + m rows;
//! * aggregates that can be split are computed by each shard for each combination of the columns that stand
//!   outside of them, and the host adds up (`count` as a sum of counts, `avg` as a sum over a count …). The
//!   groups of the statement are unions of those, so nothing has to be known of GROUP BY itself.
//!
//! Only functions that give the same on every server are pushed. Sums are split where the type of the sum of
//! sums is known; the host's types are compared with PostgreSQL's own before a row is shown.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::Inputs;
use super::moment::can_be_said;
use super::text::{Call, Clauses, Found, Text};
use crate::catalog::Table;
use crate::datum::{Oid, oid};
use crate::map::{FunctionRule, ShardMap};
use crate::sql::ir::{Analysis, BlockKind, CallKind, Expr, FromTree, Select, Source, SourceKind};
use crate::sql::quote::quote_identifier;
use crate::sql::tokens::{Token, TokenKind, tokenize};

/// What partial results are called, before their number.
const PARTIAL: &str = "pgmeridian_partial_";

/// A SELECT from one sharded table.
#[derive(Debug)]
pub(super) struct Single {
    table: Arc<Table>,
    /// The name that its columns are qualified with.
    name: String,
    aliased: bool,
    /// Name, and the table's column if it is one, of each output.
    outputs: Vec<(String, Option<String>)>,
    /// Rows can be picked by each shard: the output is the rows, one by one.
    plain: bool,
    /// Groups can be added up.
    groups: bool,
    /// Columns that are items of GROUP BY.
    grouped: Vec<String>,
}

/// What the shards do beforehand.
#[derive(Debug)]
pub(super) enum Pushed {
    /// They choose rows.
    Rows {
        /// WHERE.
        condition: Option<String>,
        /// ORDER BY and LIMIT.
        tail: String,
    },
    /// They add up.
    Groups {
        /// What they select.
        columns: String,
        /// What they group by, with the key words.
        group_by: String,
        /// WHERE.
        condition: Option<String>,
        /// The host's statement.
        sql: String,
    },
}

impl Single {
    /// The statement as a SELECT from one table, if it is one and its functions give the same everywhere.
    pub(super) fn of(analysis: &Analysis, map: &ShardMap) -> Option<Self> {
        let [block] = analysis.blocks.as_slice() else { return None };
        let [source] = analysis.sources.as_slice() else { return None };
        let BlockKind::Select(select) = &block.kind else { return None };
        let (FromTree::Source(_), SourceKind::Table(table)) = (&select.from, &source.kind) else {
            return None;
        };
        let same = |kind: CallKind, name: &str| match kind {
            CallKind::Pure | CallKind::Stable => true,
            CallKind::Time => can_be_said(analysis, name),
            CallKind::User(_) => map.function(name) == Some(FunctionRule::Pure),
            _ => false,
        };
        let known = table.columns_known
            && !table.columns.iter().any(|column| column.name.starts_with(PARTIAL));
        if !known
            || !analysis.views.is_empty()
            || source.only
            || is_renamed(source, analysis)
            || !analysis.calls.iter().all(|call| same(call.kind, &call.name))
        {
            return None;
        }
        let column = |expr: &Expr| match expr {
            Expr::Column(found) => {
                table.columns.get(usize::from(found.column)).map(|column| column.name.clone())
            }
            _ => None,
        };
        let outputs: Vec<_> =
            block.output.iter().map(|o| (o.name.clone(), column(&o.expr))).collect();
        Some(Self {
            table: Arc::clone(table),
            name: source.name.clone(),
            aliased: source.aliased,
            plain: select.is_plain() && !outputs.is_empty(),
            groups: adds_up(analysis, select, table) && !outputs.is_empty(),
            grouped: select
                .group_by
                .iter()
                .flatten()
                .filter_map(|found| table.columns.get(usize::from(found.column)))
                .map(|column| column.name.clone())
                .collect(),
            outputs,
        })
    }

    /// The table as a shard is asked for it.
    pub(super) fn relation(&self) -> String {
        let mut sql = format!(
            "{}.{}",
            quote_identifier(&self.table.schema),
            quote_identifier(&self.table.name)
        );
        if self.aliased {
            let _ = write!(sql, " AS {}", quote_identifier(&self.name));
        }
        sql
    }

    /// What can be pushed down for one execution. `scratch` is what the host has in the table's place.
    pub(super) fn push(&self, inputs: &Inputs<'_>, scratch: &str) -> Option<Pushed> {
        let tokens = tokenize(inputs.text, Some(inputs.literals)).ok()?;
        let text = Text { tokens: &tokens, inputs };
        let clauses = text.clauses()?;
        let condition = match &clauses.filter {
            Some(filter) => Some(text.with_values(filter.clone())?),
            None => None,
        };
        if self.groups
            && let Some(groups) = self.groups(&text, &clauses, scratch, condition.as_deref())
        {
            return Some(groups);
        }
        let tail = if self.plain { self.tail(&text, &clauses) } else { None };
        Some(Pushed::Rows { condition, tail: tail.unwrap_or_default() })
    }

    /// ORDER BY and LIMIT for a shard: as many rows as the statement skips and takes.
    fn tail(&self, text: &Text<'_>, clauses: &Clauses) -> Option<String> {
        let rows = text.row_count(clauses.limit.clone()?)?;
        let Some(order) = clauses.order.clone() else { return Some(format!(" LIMIT {rows}")) };
        for item in text.items(order.clone()) {
            let first = text.token(item.start)?;
            if matches!(first.kind, TokenKind::Number(_)) {
                return None;
            }
            // A name alone is an output's, if there is one of that name.
            let alone = text.token(item.start + 1).filter(|_| item.len() > 1).is_none_or(|next| {
                ["asc", "desc", "nulls"].iter().any(|w| next.is_word(text.sql(), w))
            });
            if alone && let Some(name) = first.name(text.sql()) {
                let shadows = |(output, column): &(String, Option<String>)| {
                    *output == name && column.as_ref() != Some(&name)
                };
                if self.outputs.iter().any(shadows) || self.table.column(&name).is_none() {
                    return None;
                }
            }
        }
        Some(format!(" ORDER BY {} LIMIT {rows}", text.with_values(order)?))
    }

    /// Partial groups for the shards, and how the host adds them up.
    fn groups(
        &self,
        text: &Text<'_>,
        clauses: &Clauses,
        scratch: &str,
        condition: Option<&str>,
    ) -> Option<Pushed> {
        let mut partials =
            Partials { table: &self.table, name: &self.name, list: Vec::new(), whole: false };
        let mut columns: Vec<String> = Vec::new();
        let mut list = Vec::new();
        let items = text.items(clauses.select.clone());
        if items.len() != self.outputs.len() {
            return None;
        }
        for (item, (name, _)) in items.into_iter().zip(&self.outputs) {
            let alias = text.alias_at(&item);
            let (mut new, changed) = self.combined(text, item, &mut partials, &mut columns)?;
            if changed && !alias {
                if name.is_empty() {
                    return None;
                }
                let _ = write!(new, " AS {}", quote_identifier(name));
            }
            list.push(new);
        }
        let mut sql = format!(
            "SELECT {}{} FROM {scratch} AS {}",
            if clauses.distinct { "DISTINCT " } else { "" },
            list.join(", "),
            quote_identifier(&self.name)
        );
        let rest = [
            (" GROUP BY ", &clauses.group),
            (" HAVING ", &clauses.having),
            (" ORDER BY ", &clauses.order),
        ];
        for (words, clause) in rest {
            if let Some(range) = clause {
                let (new, _) = self.combined(text, range.clone(), &mut partials, &mut columns)?;
                let _ = write!(sql, "{words}{new}");
            }
        }
        if let Some(limit) = &clauses.limit {
            let _ = write!(sql, " {}", text.verbatim(limit.clone())?);
        }
        if partials.list.is_empty() && columns.is_empty()
            || clauses.group.is_some() && columns.is_empty()
        {
            return None;
        }
        if !columns.iter().all(|column| self.keeps_apart(column, partials.whole)) {
            return None;
        }
        let names: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
        let group_by = if names.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", names.join(", "))
        };
        let partial = partials.list.iter().enumerate();
        let selected = names
            .into_iter()
            .chain(partial.map(|(n, sql)| format!("{sql} AS {PARTIAL}{}", n + 1)))
            .collect::<Vec<_>>();
        Some(Pushed::Groups {
            columns: selected.join(", "),
            group_by,
            condition: condition.map(ToOwned::to_owned),
            sql,
        })
    }

    /// Grouping by a column keeps apart what an expression could tell apart: 1.0 and 1.00 are equal, and so are
    /// one month and thirty days. Where the statement itself groups by the column, it asks for no more.
    fn keeps_apart(&self, column: &str, whole: bool) -> bool {
        let found = self.table.columns.iter().find(|known| known.name == column);
        found.is_some_and(|known| known.deterministic && equal_is_same(known.type_oid))
            || !whole && self.grouped.iter().any(|grouped| grouped == column)
    }

    /// A part of the statement as the host has it: aggregates become sums of partial ones. Collects the
    /// columns that stand outside of them. The flag says whether anything changed.
    fn combined(
        &self,
        text: &Text<'_>,
        range: Range<usize>,
        partials: &mut Partials<'_>,
        columns: &mut Vec<String>,
    ) -> Option<(String, bool)> {
        let mut out = String::new();
        let mut changed = false;
        let mut at = range.start;
        while at < range.end {
            let token = text.token(at)?;
            match text.aggregate_at(at) {
                Found::Nothing => {}
                Found::Unclear => return None,
                Found::Aggregate(call) => match partials.split(text, &call) {
                    Part::Whole => {}
                    Part::None => return None,
                    Part::Sum(sum) => {
                        text.space(at, range.start, &mut out);
                        out.push_str(&sum);
                        changed = true;
                        at = call.end;
                        continue;
                    }
                },
            }
            let previous = at.checked_sub(1).and_then(|before| text.token(before));
            let next = text.token(at + 1);
            let sql = text.sql();
            if token.is(sql, "*")
                && previous.is_none_or(|p| {
                    p.is(sql, ",")
                        || p.is(sql, ".")
                        || p.is_word(sql, "select")
                        || p.is_word(sql, "distinct")
                })
            {
                return None;
            }
            if let Some(name) = token.name(sql)
                && self.table.column(&name).is_some()
                && !next.is_some_and(|next| next.is(sql, "(") || next.is(sql, "."))
                && !previous.is_some_and(|previous| previous.is_word(sql, "as"))
                && !columns.contains(&name)
            {
                columns.push(name);
            }
            text.space(at, range.start, &mut out);
            out.push_str(token.text(sql));
            at += 1;
        }
        Some((out, changed))
    }
}

/// A column list stands behind the alias.
pub(super) fn is_renamed(source: &Source, analysis: &Analysis) -> bool {
    let name_end = source.span.end;
    let behind = analysis.tokens.iter().filter(|t| t.start >= name_end && t.end <= source.end);
    // `AS u`, or `u`; anything longer has a list.
    source.aliased && behind.count() > 2
}

fn adds_up(analysis: &Analysis, select: &Select, table: &Table) -> bool {
    let grouped =
        |column: &u16| select.group_by.iter().flatten().any(|found| found.column == *column);
    // With the primary key in GROUP BY, other columns may stand outside of aggregates.
    let by_key = !table.primary_key.is_empty() && table.primary_key.iter().all(grouped);
    let user = |kind: &CallKind| matches!(kind, CallKind::User(_));
    (select.aggregates || !select.group_by.is_empty())
        && !(select.distinct_on
            || select.grouping_sets
            || select.windows
            || select.srf_in_output
            || by_key
            || analysis.uses_unclear
            || analysis.calls.iter().any(|call| user(&call.kind)))
}

/// What the host has in an aggregate call's place.
enum Part {
    /// A sum of partial results.
    Sum(String),
    /// The call as it is (DISTINCT), over columns that are grouped by.
    Whole,
    /// Nothing: it can't be split.
    None,
}

/// Aggregates that the shards compute.
struct Partials<'t> {
    table: &'t Table,
    /// The name that the table's columns are qualified with.
    name: &'t str,
    list: Vec<String>,
    /// A call stays as it is, over columns that are grouped by.
    whole: bool,
}

impl Partials<'_> {
    /// What the host has instead of a call.
    fn split(&mut self, text: &Text<'_>, call: &Call) -> Part {
        let sql = text.sql();
        let first = text.token(call.arguments.start).filter(|_| !call.arguments.is_empty());
        if first.is_some_and(|first| first.is_word(sql, "distinct")) {
            self.whole = true;
            return if splits(&call.name) { Part::Whole } else { Part::None };
        }
        let ordered = |at: usize| {
            text.token(at)
                .is_some_and(|token| token.is_word(sql, "order") || token.is_word(sql, "all"))
        };
        if call.arguments.clone().any(ordered) {
            return Part::None;
        }
        self.sum(text, call).map_or(Part::None, Part::Sum)
    }

    fn sum(&mut self, text: &Text<'_>, call: &Call) -> Option<String> {
        let whole = text.with_values(call.start..call.end)?;
        let same = |this: &mut Self, name: &str| {
            let partial = this.add(whole.clone());
            format!("{name}({partial})")
        };
        Some(match call.name.as_str() {
            "count" => {
                let partial = self.add(whole);
                format!("(coalesce(sum({partial}), 0)::bigint)")
            }
            "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" => {
                same(self, &call.name)
            }
            "sum" => {
                let partial_of = self.type_of(text, call)?;
                let partial = self.add(whole);
                match partial_of {
                    oid::INT2 | oid::INT4 => format!("(sum({partial})::bigint)"),
                    oid::INT8 | oid::NUMERIC | FLOAT8 | INTERVAL => format!("sum({partial})"),
                    _ => return None,
                }
            }
            "avg" => {
                let number = match self.type_of(text, call)? {
                    oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC => "numeric",
                    FLOAT8 => "double precision",
                    _ => return None,
                };
                let rest = text.with_values(call.start + 1..call.end)?;
                let (sum, count) =
                    (self.add(format!("sum{rest}")), self.add(format!("count{rest}")));
                format!("(sum({sum})::{number} / nullif(sum({count}), 0)::{number})")
            }
            _ => return None,
        })
    }

    /// The name of a partial result.
    fn add(&mut self, sql: String) -> String {
        let at = self.list.iter().position(|known| *known == sql).unwrap_or_else(|| {
            self.list.push(sql);
            self.list.len() - 1
        });
        format!("{PARTIAL}{}", at + 1)
    }

    /// The type of an argument that is a column and nothing else.
    fn type_of(&self, text: &Text<'_>, call: &Call) -> Option<Oid> {
        let sql = text.sql();
        let tokens: Vec<Token> =
            call.arguments.clone().map(|at| text.token(at)).collect::<Option<_>>()?;
        let column = match tokens.as_slice() {
            [column] => column,
            [table, dot, column] if dot.is(sql, ".") && table.name(sql)? == self.name => column,
            _ => return None,
        };
        let at = self.table.column(&column.name(sql)?)?;
        self.table.columns.get(usize::from(at)).map(|column| column.type_oid)
    }
}

/// Types whose equal values are the same to every function (`pg_type.dat`): boolean, bytea, "char", name, the
/// integers, text, oid, cidr, macaddr, inet, varchar, date, time, timestamp, timestamptz, uuid, and arrays of
/// integers, text, varchar and uuid.
fn equal_is_same(ty: Oid) -> bool {
    const TYPES: [Oid; 22] = [
        16, 17, 18, 19, 20, 21, 23, 25, 26, 650, 829, 869, 1043, 1082, 1083, 1114, 1184, 2950,
        1005, 1007, 1009, 1016,
    ];
    TYPES.contains(&ty) || matches!(ty, oid::VARCHAR_ARRAY | oid::UUID_ARRAY)
}

/// `double precision`
const FLOAT8: Oid = 701;
/// `interval`
const INTERVAL: Oid = 1186;

/// Aggregates that can be computed over the distinct values of columns that are grouped by.
fn splits(name: &str) -> bool {
    matches!(name, "count" | "sum" | "avg" | "min" | "max")
}
