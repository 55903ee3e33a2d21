//! The IR as compact text, for tests.

use std::fmt::Write;

use crate::datum::oid;
use crate::sql::ir::{
    Analysis, ArithmeticOperator, Assignment, Block, BlockKind, CallKind, ColumnRef, Expr,
    FromTree, InsertRows, JoinKind, MergeAction, OnConflict, Pred, Scalar, Source, SourceKind,
    Statement, SubqueryPlace,
};

/// A statement: its blocks, outermost first, then calls.
pub(super) fn statement(statement: &Statement) -> String {
    match statement {
        Statement::Query(analysis) => Dump { a: analysis }.analysis(),
        Statement::Explain { analyze, inner } => {
            format!("explain{} {}", if *analyze { " analyze" } else { "" }, self::statement(inner))
        }
        Statement::CreateTemporary { inner } => {
            format!("temporary table of {}", self::statement(inner))
        }
        Statement::Declare { hold, inner } => {
            format!("cursor{} {}", if *hold { " held" } else { "" }, self::statement(inner))
        }
        Statement::Utility(utility) => {
            let tables: Vec<_> = utility.tables.iter().map(|t| t.name.as_str()).collect();
            format!("utility {} {:?} [{}]", utility.tag, utility.kind, tables.join(" "))
        }
        Statement::Opaque(opaque) => {
            let tables: Vec<_> = opaque.tables.iter().map(|t| t.name.as_str()).collect();
            let reads = if opaque.reads_only { " reads" } else { "" };
            format!(
                "opaque{reads} [{}] [{}]: {}",
                tables.join(" "),
                opaque.unknown_functions.join(" "),
                opaque.reason
            )
        }
    }
}

struct Dump<'a> {
    a: &'a Analysis,
}

impl Dump<'_> {
    fn analysis(&self) -> String {
        let mut text = String::new();
        for (id, block) in self.a.blocks.iter().enumerate() {
            let separator = if id == 0 { "" } else { "; " };
            let _ = write!(text, "{separator}b{id} {}", self.block(block));
        }
        for call in &self.a.calls {
            let kind = match call.kind {
                CallKind::User(v) => format!("user-{v:?}").to_lowercase(),
                other => format!("{other:?}").to_lowercase(),
            };
            let _ = write!(text, "; {}()@b{} {kind}", call.name, call.block);
        }
        text
    }

    fn block(&self, block: &Block) -> String {
        let mut text = match &block.kind {
            BlockKind::Select(s) => {
                let mut text = format!("select {}", self.outputs(block));
                let _ = write!(text, " from {}", self.from(&s.from));
                let _ = write!(text, "{}", self.filter(&s.filter));
                if !s.group_by.is_empty() {
                    let items: Vec<_> = s
                        .group_by
                        .iter()
                        .map(|g| g.map_or("?".to_owned(), |c| self.column(c)))
                        .collect();
                    let _ = write!(text, " group({})", items.join(","));
                }
                let flags = [
                    (s.distinct, "distinct"),
                    (s.distinct_on, "distinct-on"),
                    (s.grouping_sets, "sets"),
                    (s.aggregates, "agg"),
                    (s.having, "having"),
                    (s.windows, "window"),
                    (s.srf_in_output, "srf"),
                    (s.order_by, "order"),
                    (s.limit, "limit"),
                    (s.locks_rows, "lock"),
                ];
                for (_, name) in flags.iter().filter(|f| f.0) {
                    let _ = write!(text, " {name}");
                }
                text
            }
            BlockKind::SetOperation(s) => {
                let mut text = format!("{:?}", s.operator).to_lowercase();
                let flags = [
                    (s.all, "all"),
                    (s.recursive, "recursive"),
                    (s.order_by, "order"),
                    (s.limit, "limit"),
                ];
                for (_, name) in flags.iter().filter(|f| f.0) {
                    let _ = write!(text, " {name}");
                }
                let _ = write!(text, " b{} b{}", s.left, s.right);
                text
            }
            BlockKind::Values(rows) => {
                let rows: Vec<_> = rows.iter().map(|r| format!("({})", self.exprs(r))).collect();
                format!("values {}", rows.join(","))
            }
            BlockKind::Insert(i) => {
                let rows = match &i.rows {
                    InsertRows::Values(rows) => {
                        let rows: Vec<_> =
                            rows.iter().map(|r| format!("({})", self.exprs(&r.values))).collect();
                        rows.join(",")
                    }
                    InsertRows::Query(b) => format!("b{b}"),
                    InsertRows::Defaults => "defaults".to_owned(),
                };
                let columns: Vec<_> =
                    i.columns.iter().map(|c| self.name_of(i.target, *c)).collect();
                let conflict = match &i.on_conflict {
                    OnConflict::Error => String::new(),
                    OnConflict::Nothing => " else nothing".to_owned(),
                    OnConflict::Update(set) => {
                        format!(" else set {}", self.assignments(i.target, set))
                    }
                };
                format!(
                    "insert {}({}) {rows}{conflict}{}",
                    self.source(i.target),
                    columns.join(","),
                    self.returning(block)
                )
            }
            BlockKind::Update(u) => format!(
                "update {} set {} from {}{}{}",
                self.source(u.target),
                self.assignments(u.target, &u.assignments),
                self.from(&u.from),
                self.filter(&u.filter),
                self.returning(block)
            ),
            BlockKind::Delete(d) => format!(
                "delete {} from {}{}{}",
                self.source(d.target),
                self.from(&d.from),
                self.filter(&d.filter),
                self.returning(block)
            ),
            BlockKind::Merge(m) => {
                let actions: Vec<_> = m
                    .actions
                    .iter()
                    .map(|a| match a {
                        MergeAction::Insert { columns, values } => {
                            let columns: Vec<_> =
                                columns.iter().map(|c| self.name_of(m.target, *c)).collect();
                            format!("insert({}) ({})", columns.join(","), self.exprs(values))
                        }
                        MergeAction::Update(set) => {
                            format!("set {}", self.assignments(m.target, set))
                        }
                        MergeAction::Delete => "delete".to_owned(),
                        MergeAction::Nothing => "nothing".to_owned(),
                    })
                    .collect();
                format!(
                    "merge {} from {} | {}",
                    self.source(m.target),
                    self.from(&m.from),
                    actions.join(" | ")
                )
            }
        };
        for sub in &block.subqueries {
            let place = match sub.place {
                SubqueryPlace::Filter => "filter",
                SubqueryPlace::OuterJoin => "outer",
                SubqueryPlace::Other => "other",
                SubqueryPlace::Limit => "limit",
            };
            let _ = write!(text, " sub b{}:{place}", sub.block);
        }
        for unused in &block.unused_ctes {
            let _ = write!(text, " unused b{unused}");
        }
        text
    }

    fn returning(&self, block: &Block) -> String {
        if block.output.is_empty() {
            String::new()
        } else {
            format!(" returning {}", self.outputs(block))
        }
    }

    fn outputs(&self, block: &Block) -> String {
        let outputs = block.output.iter().map(|o| {
            let expr = self.expr(&o.expr);
            let same = match &o.expr {
                Expr::Column(c) => self.name_of(c.source, c.column) == o.name,
                _ => o.name == "?column?",
            };
            if same { expr } else { format!("{expr} {}", o.name) }
        });
        outputs.collect::<Vec<_>>().join(",")
    }

    fn source(&self, id: u32) -> String {
        let source = &self.a.sources[id as usize];
        let same = |s: &&Source| s.name == source.name;
        if self.a.sources.iter().filter(same).count() > 1 {
            format!("{}#{id}", source.name)
        } else {
            source.name.clone()
        }
    }

    fn name_of(&self, source: u32, column: u16) -> String {
        let names: Vec<String> = match &self.a.sources[source as usize].kind {
            SourceKind::Table(table) => table.columns.iter().map(|c| c.name.clone()).collect(),
            SourceKind::Derived(b) => {
                self.a.blocks[*b as usize].output.iter().map(|o| o.name.clone()).collect()
            }
            _ => Vec::new(),
        };
        names.get(usize::from(column)).cloned().unwrap_or_else(|| format!("[{column}]"))
    }

    fn column(&self, c: ColumnRef) -> String {
        format!("{}.{}", self.source(c.source), self.name_of(c.source, c.column))
    }

    fn from(&self, tree: &FromTree) -> String {
        match tree {
            FromTree::Empty => "-".to_owned(),
            FromTree::Source(id) => {
                let source = &self.a.sources[*id as usize];
                let kind = match &source.kind {
                    SourceKind::Table(t) if t.name == source.name => String::new(),
                    SourceKind::Table(t) => format!("={}", t.name),
                    SourceKind::Derived(b) => format!("=b{b}"),
                    SourceKind::SystemCatalog => "=system".to_owned(),
                    SourceKind::Function => "=function".to_owned(),
                    SourceKind::RecursiveSelf => "=self".to_owned(),
                    SourceKind::Unknown(_) => "=unknown".to_owned(),
                };
                let only = if source.only { "only " } else { "" };
                format!("{only}{}{kind}", self.source(*id))
            }
            FromTree::Join { kind, left, right, on } => {
                let kind = match kind {
                    JoinKind::Inner => "*",
                    JoinKind::Left => "*>",
                    JoinKind::Right => "<*",
                    JoinKind::Full => "<*>",
                };
                let on = if *on == Pred::True {
                    String::new()
                } else {
                    format!(" on {}", self.pred(on))
                };
                format!("({} {kind} {}{on})", self.from(left), self.from(right))
            }
        }
    }

    fn filter(&self, pred: &Pred) -> String {
        if *pred == Pred::True { String::new() } else { format!(" where {}", self.pred(pred)) }
    }

    fn pred(&self, pred: &Pred) -> String {
        let list = |items: &[Pred], word: &str| {
            let items: Vec<_> = items.iter().map(|p| self.pred(p)).collect();
            format!("({})", items.join(word))
        };
        match pred {
            Pred::True => "true".to_owned(),
            Pred::And(items) => list(items, " & "),
            Pred::Or(items) => list(items, " | "),
            Pred::Eq(c, s) => format!("{}={}", self.column(*c), scalar(s)),
            Pred::EqColumns(a, b) => format!("{}={}", self.column(*a), self.column(*b)),
            Pred::In(c, values) => {
                format!(
                    "{} in({})",
                    self.column(*c),
                    values.iter().map(scalar).collect::<Vec<_>>().join(",")
                )
            }
            Pred::EqAny(c, s) => format!("{}=any {}", self.column(*c), scalar(s)),
            Pred::InQuery(c, b) => format!("{} in b{b}", self.column(*c)),
            Pred::Exists(b) => format!("exists b{b}"),
            Pred::Range { column, lower, upper } => {
                let bound = |b: &Option<(Scalar, bool)>, strict: &str, loose: &str| {
                    b.as_ref().map_or(String::new(), |(s, inclusive)| {
                        format!("{}{}", if *inclusive { loose } else { strict }, scalar(s))
                    })
                };
                format!(
                    "{}{}{}",
                    self.column(*column),
                    bound(lower, ">", ">="),
                    bound(upper, "<", "<=")
                )
            }
            Pred::IsNull(c) => format!("{} null", self.column(*c)),
            Pred::Unknown => "?".to_owned(),
        }
    }

    fn exprs(&self, exprs: &[Expr]) -> String {
        exprs.iter().map(|e| self.expr(e)).collect::<Vec<_>>().join(",")
    }

    fn expr(&self, expr: &Expr) -> String {
        match expr {
            Expr::Scalar(s) => scalar(s),
            Expr::Column(c) => self.column(*c),
            Expr::Excluded(c) => format!("excluded[{c}]"),
            Expr::Default => "default".to_owned(),
            Expr::Other => "_".to_owned(),
        }
    }

    fn assignments(&self, target: u32, set: &[Assignment]) -> String {
        let items = set
            .iter()
            .map(|a| format!("{}={}", self.name_of(target, a.column), self.expr(&a.value)));
        items.collect::<Vec<_>>().join(",")
    }
}

fn scalar(s: &Scalar) -> String {
    match s {
        Scalar::Literal(slot) => format!("?{slot}"),
        Scalar::Negative(slot) => format!("-?{slot}"),
        Scalar::Param(n) => format!("${}", n + 1),
        Scalar::Null => "null".to_owned(),
        Scalar::Arithmetic(both) => {
            let operator = match both.operator {
                ArithmeticOperator::Plus => '+',
                ArithmeticOperator::Minus => '-',
                ArithmeticOperator::Times => '*',
            };
            format!("({}{operator}{})", scalar(&both.left), scalar(&both.right))
        }
        Scalar::Cast(inner, oid) => {
            let name = match *oid {
                oid::INT2 => "int2",
                oid::INT4 => "int4",
                oid::INT8 => "int8",
                oid::TEXT => "text",
                oid::VARCHAR => "varchar",
                oid::UUID => "uuid",
                oid::NUMERIC => "numeric",
                oid::INT8_ARRAY => "int8[]",
                oid::UUID_ARRAY => "uuid[]",
                oid::TEXT_ARRAY => "text[]",
                _ => "other",
            };
            format!("{}:{name}", scalar(inner))
        }
    }
}
