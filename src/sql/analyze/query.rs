//! Query blocks: WITH, SELECT, set operations, VALUES, and what stands after them.

use sqlparser::ast::{self, Expr, GroupByExpr, LimitClause, OrderByKind, SelectItem, SetExpr};

use super::super::ir::{
    BlockId, BlockKind, ColumnRef, Expr as IrExpr, FromTree, Output, Scalar, Select, SetOperation,
    SetOperator, SourceKind, Span, SubqueryPlace,
};
use super::super::parse;
use super::scope::{Cte, Outside, Scope, ScopeId};
use super::{Lowered, Lowering, foreign, unsupported};

/// What a name of a result column is taken to be when the expression has none.
const NO_NAME: &str = "?column?";

impl<'t> Lowering<'t, '_> {
    /// Lowers a query with all that belongs to it; the state of whoever stands around it is kept.
    pub(super) fn query(&mut self, query: &'t ast::Query, outside: Outside) -> Lowered<BlockId> {
        stacker::maybe_grow(256 << 10, 4 << 20, || {
            let saved = (self.block, self.scope, self.place);
            let block = self.query_inner(query, outside);
            (self.block, self.scope, self.place) = saved;
            block
        })
    }

    fn query_inner(&mut self, query: &'t ast::Query, outside: Outside) -> Lowered<BlockId> {
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return foreign("this clause after a query");
        }
        let scope = self.push_scope(Scope {
            parent: Some(outside.scope),
            hide_parent: outside.hide,
            parent_ctes: outside.ctes,
            ..Scope::default()
        });
        self.scope = scope;
        if let Some(with) = &query.with {
            self.declare_ctes(scope, with)?;
        }
        self.arena.locks_rows |= !query.locks.is_empty();
        let block = self.set_expr(&query.body, outside.block, scope, Some(query))?;
        self.unused_ctes(scope, block)?;
        Ok(block)
    }

    fn declare_ctes(&mut self, scope: ScopeId, with: &'t ast::With) -> Lowered<()> {
        let count = with.cte_tables.len();
        for (index, cte) in with.cte_tables.iter().enumerate() {
            if cte.from.is_some() {
                return foreign("FROM after a CTE");
            }
            let declared = Cte {
                name: parse::name(&cte.alias.name),
                definition: cte,
                sees: if with.recursive { count } else { index },
                references: 0,
                modifies: modifies(&cte.query.body),
                recursive: false,
            };
            if let Some(scope) = self.scopes.get_mut(scope) {
                scope.ctes.push(declared);
            }
        }
        Ok(())
    }

    /// Lowers a CTE's query for one reference to it.
    pub(super) fn cte_block(
        &mut self,
        scope: ScopeId,
        index: usize,
        parent: BlockId,
    ) -> Lowered<BlockId> {
        let missing = || "a CTE is missing".to_owned();
        let cte =
            self.scopes.get_mut(scope).and_then(|s| s.ctes.get_mut(index)).ok_or_else(missing)?;
        cte.references += 1;
        if cte.modifies && cte.references > 1 {
            return Err(format!(
                "the data-modifying CTE \"{}\" is referred to more than once",
                cte.name
            ));
        }
        let (query, sees) = (&cte.definition.query, cte.sees);
        self.active.push((scope, index));
        let outside = Outside { block: Some(parent), scope, hide: true, ctes: Some(sees) };
        let block = self.query(query, outside);
        self.active.pop();
        let block = block?;
        let recursive =
            self.scopes.get(scope).and_then(|s| s.ctes.get(index)).is_some_and(|c| c.recursive);
        if let (true, BlockKind::SetOperation(operation)) =
            (recursive, &mut self.block_mut(block)?.kind)
        {
            operation.recursive = true;
        }
        Ok(block)
    }

    fn unused_ctes(&mut self, scope: ScopeId, block: BlockId) -> Lowered<()> {
        let count = self.scopes.get(scope).map_or(0, |s| s.ctes.len());
        for index in 0..count {
            let unused = self
                .scopes
                .get(scope)
                .and_then(|s| s.ctes.get(index))
                .is_some_and(|c| c.references == 0);
            if unused {
                let cte = self.cte_block(scope, index, block)?;
                self.block_mut(block)?.unused_ctes.push(cte);
            }
        }
        Ok(())
    }

    /// Lowers a query's body. `tail` is the query whose ORDER BY, LIMIT and so on follow it.
    fn set_expr(
        &mut self,
        body: &'t SetExpr,
        parent: Option<BlockId>,
        scope: ScopeId,
        tail: Option<&'t ast::Query>,
    ) -> Lowered<BlockId> {
        stacker::maybe_grow(256 << 10, 4 << 20, || match body {
            SetExpr::Select(select) => self.select(select, parent, scope, tail),
            SetExpr::Query(inner) => {
                let outside = Outside { block: parent, scope, hide: false, ctes: None };
                let block = self.query(inner, outside)?;
                self.tail(tail, block, scope)?;
                Ok(block)
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let block =
                    self.set_operation((left, right), *op, *set_quantifier, (parent, scope))?;
                self.tail(tail, block, scope)?;
                Ok(block)
            }
            SetExpr::Values(values) => {
                let block = self.values(values, parent, scope)?;
                self.tail(tail, block, scope)?;
                Ok(block)
            }
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => {
                if tail.is_some_and(|q| {
                    q.order_by.is_some() || q.limit_clause.is_some() || q.fetch.is_some()
                }) {
                    return foreign("ORDER BY or LIMIT after a data-modifying statement");
                }
                self.modification(statement, parent, scope)
            }
            SetExpr::Table(_) => unsupported("this form of TABLE"),
        })
    }

    fn set_operation(
        &mut self,
        (left, right): (&'t SetExpr, &'t SetExpr),
        op: ast::SetOperator,
        quantifier: ast::SetQuantifier,
        (parent, scope): (Option<BlockId>, ScopeId),
    ) -> Lowered<BlockId> {
        let operator = match op {
            ast::SetOperator::Union => SetOperator::Union,
            ast::SetOperator::Except => SetOperator::Except,
            ast::SetOperator::Intersect => SetOperator::Intersect,
            ast::SetOperator::Minus => return foreign("MINUS"),
        };
        let all = match quantifier {
            ast::SetQuantifier::All => true,
            ast::SetQuantifier::Distinct | ast::SetQuantifier::None => false,
            ast::SetQuantifier::ByName
            | ast::SetQuantifier::AllByName
            | ast::SetQuantifier::DistinctByName => return foreign("BY NAME"),
        };
        let block = self.begin_block(parent, Span::default())?;
        let left = self.set_expr(left, Some(block), scope, None)?;
        self.scope = scope;
        let right = self.set_expr(right, Some(block), scope, None)?;
        let first = self.block_mut(left)?;
        let start = first.span.start;
        let output = first
            .output
            .iter()
            .map(|o| Output { name: o.name.clone(), expr: IrExpr::Other })
            .collect();
        let span = self.span_from(start);
        let made = self.block_mut(block)?;
        made.span = span;
        made.output = output;
        made.kind = BlockKind::SetOperation(SetOperation {
            operator,
            all,
            left,
            right,
            recursive: false,
            order_by: false,
            limit: false,
        });
        Ok(block)
    }

    fn values(
        &mut self,
        values: &'t ast::Values,
        parent: Option<BlockId>,
        scope: ScopeId,
    ) -> Lowered<BlockId> {
        if values.explicit_row || values.value_keyword {
            return foreign("VALUES ROW");
        }
        let start = values.rows.first().map_or(0, |row| self.span(row.opening_token.0.span).start);
        let before = super::tokens::index_at(self.text.tokens, start).checked_sub(1);
        let keyword = before.and_then(|i| self.text.tokens.get(i)).map_or(start, |t| t.start);
        let block = self.begin_block(parent, self.span_from(keyword))?;
        self.block = block;
        self.scope = scope;
        let mut rows = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            rows.push(self.row(&row.content)?);
        }
        let width = rows.iter().map(Vec::len).min().unwrap_or(0);
        let only_row = if rows.len() == 1 { rows.first() } else { None };
        let output = (0..width).map(|i| Output {
            name: format!("column{}", i + 1),
            expr: only_row.and_then(|row| row.get(i)).cloned().unwrap_or(IrExpr::Other),
        });
        let output = output.collect();
        let made = self.block_mut(block)?;
        made.output = output;
        made.kind = BlockKind::Values(rows);
        Ok(block)
    }

    /// The expressions of a row of VALUES.
    pub(super) fn row(&mut self, row: &'t [Expr]) -> Lowered<Vec<IrExpr>> {
        self.at_place(SubqueryPlace::Other, |this| row.iter().map(|e| this.expr(e)).collect())
    }

    /// ORDER BY, LIMIT and row locks after a block that is not a plain SELECT.
    fn tail(
        &mut self,
        tail: Option<&'t ast::Query>,
        block: BlockId,
        scope: ScopeId,
    ) -> Lowered<()> {
        let Some(query) = tail else { return Ok(()) };
        (self.block, self.scope) = (block, scope);
        let (ordered, limited) = self.order_and_limit(query)?;
        match &mut self.block_mut(block)?.kind {
            BlockKind::Select(select) => {
                select.order_by |= ordered;
                select.limit |= limited;
                select.locks_rows |= !query.locks.is_empty();
            }
            BlockKind::SetOperation(operation) => {
                operation.order_by |= ordered;
                operation.limit |= limited;
            }
            BlockKind::Values(_)
            | BlockKind::Insert(_)
            | BlockKind::Update(_)
            | BlockKind::Delete(_)
            | BlockKind::Merge(_) => {}
        }
        Ok(())
    }

    /// Walks ORDER BY, LIMIT, OFFSET and FETCH; says which are there.
    fn order_and_limit(&mut self, query: &'t ast::Query) -> Lowered<(bool, bool)> {
        if let Some(order_by) = &query.order_by {
            if order_by.interpolate.is_some() {
                return foreign("INTERPOLATE");
            }
            let OrderByKind::Expressions(items) = &order_by.kind else {
                return foreign("ORDER BY ALL");
            };
            self.at_place(SubqueryPlace::Other, |this| {
                items.iter().try_for_each(|item| this.order_item(item))
            })?;
        }
        let mut amounts: Vec<&'t Expr> = Vec::new();
        match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
                if !limit_by.is_empty() {
                    return foreign("LIMIT BY");
                }
                amounts.extend(limit);
                amounts.extend(offset.as_ref().map(|o| &o.value));
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => return foreign("LIMIT with a comma"),
            None => {}
        }
        let fetches = query.fetch.is_some();
        amounts.extend(query.fetch.as_ref().and_then(|f| f.quantity.as_ref()));
        let limited = fetches || !amounts.is_empty();
        self.at_place(SubqueryPlace::Limit, |this| this.walk_all(amounts))?;
        Ok((query.order_by.is_some(), limited))
    }

    fn select(
        &mut self,
        select: &'t ast::Select,
        parent: Option<BlockId>,
        scope: ScopeId,
        tail: Option<&'t ast::Query>,
    ) -> Lowered<BlockId> {
        only_postgresqls(select)?;
        let start = self.span(select.select_token.0.span).start;
        let block = self.begin_block(parent, self.span_from(start))?;
        self.block = block;
        self.scope = self.push_scope(Scope { parent: Some(scope), ..Scope::default() });
        let mut made = Select { from: self.range_table(&select.from)?, ..Select::default() };
        if let Some(condition) = &select.selection {
            made.filter = self.at_place(SubqueryPlace::Filter, |this| this.pred(condition))?;
            self.scope_mut().setting = self.one_setting(select, condition);
        }
        let output =
            self.at_place(SubqueryPlace::Other, |this| this.rest_of_select(select, &mut made))?;
        if let Some(query) = tail {
            (made.order_by, made.limit) = self.order_and_limit(query)?;
            made.locks_rows = !query.locks.is_empty();
        }
        let narrowed = select.selection.is_some()
            || made.distinct
            || made.distinct_on
            || made.having
            || !made.group_by.is_empty()
            || made.limit;
        let flags = self.scope_mut().flags;
        let one_row = matches!(made.from, FromTree::Empty) && !narrowed && !flags.returns_set;
        if parent.is_none() && one_row {
            self.certain_settings(select);
        }
        made.aggregates = flags.aggregates || made.having;
        made.windows = flags.windows;
        made.srf_in_output = flags.returns_set;
        let block_made = self.block_mut(block)?;
        block_made.output = output;
        block_made.kind = BlockKind::Select(made);
        Ok(block)
    }

    /// `FROM pg_settings WHERE name = 'a setting'`: how clients set only what the server knows.
    fn one_setting(&self, select: &ast::Select, condition: &ast::Expr) -> Option<Scalar> {
        let [ast::TableWithJoins { relation: ast::TableFactor::Table { name, .. }, joins }] =
            select.from.as_slice()
        else {
            return None;
        };
        let is_settings = joins.is_empty()
            && matches!(name.0.last(), Some(ast::ObjectNamePart::Identifier(ident))
                if parse::name(ident) == "pg_settings")
            && matches!(self.arena.sources.last()?.kind, SourceKind::SystemCatalog);
        let ast::Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } = condition else {
            return None;
        };
        match left.as_ref() {
            ast::Expr::Identifier(ident) if is_settings && parse::name(ident) == "name" => {
                self.scalar(right)
            }
            _ => None,
        }
    }

    /// Output, DISTINCT, GROUP BY, HAVING, WINDOW.
    fn rest_of_select(
        &mut self,
        select: &'t ast::Select,
        made: &mut Select,
    ) -> Lowered<Vec<Output>> {
        let output = self.output(&select.projection)?;
        match &select.distinct {
            None | Some(ast::Distinct::All) => {}
            Some(ast::Distinct::Distinct) => made.distinct = true,
            Some(ast::Distinct::On(exprs)) => {
                made.distinct_on = true;
                self.walk_all(exprs)?;
            }
        }
        self.group_by(&select.group_by, &output, made)?;
        if let Some(having) = &select.having {
            made.having = true;
            self.walk(having)?;
        }
        for ast::NamedWindowDefinition(_, window) in &select.named_window {
            match window {
                ast::NamedWindowExpr::NamedWindow(_) => {}
                ast::NamedWindowExpr::WindowSpec(spec) => self.window(spec)?,
            }
        }
        Ok(output)
    }

    /// The output columns; none if their number can't be told.
    pub(super) fn output(&mut self, items: &'t [SelectItem]) -> Lowered<Vec<Output>> {
        let mut output = Vec::with_capacity(items.len());
        let mut unclear = false;
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = figured_name(expr).unwrap_or_default();
                    output.push(Output { name, expr: self.expr(expr)? });
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    output.push(Output { name: parse::name(alias), expr: self.expr(expr)? });
                }
                SelectItem::Wildcard(options) => {
                    plain_wildcard(options)?;
                    let visible = self.scope_mut().visible.clone();
                    unclear |= visible.incomplete;
                    self.arena.used.extend(visible.list.iter().filter_map(|v| v.column));
                    output.extend(visible.list.into_iter().map(into_output));
                }
                SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    plain_wildcard(options)?;
                    match self.columns_of(name) {
                        Some(columns) => {
                            self.use_outputs(&columns);
                            output.extend(columns);
                        }
                        None => unclear = true,
                    }
                }
                SelectItem::QualifiedWildcard(
                    ast::SelectItemQualifiedWildcardKind::Expr(expr),
                    options,
                ) => {
                    plain_wildcard(options)?;
                    self.walk(expr)?;
                    unclear = true;
                }
                SelectItem::ExprWithAliases { .. } => {
                    return foreign("several aliases of one expression");
                }
            }
        }
        if unclear {
            self.arena.uses_unclear = true;
            output.clear();
        }
        Ok(output)
    }

    fn use_outputs(&mut self, columns: &[Output]) {
        self.arena.used.extend(columns.iter().filter_map(|output| match output.expr {
            IrExpr::Column(column) => Some(column),
            _ => None,
        }));
    }

    /// The columns of `t.*` or `s.t.*`; `None` if they can't be told.
    fn columns_of(&self, name: &ast::ObjectName) -> Option<Vec<Output>> {
        let parts: Option<Vec<_>> = name.0.iter().map(|p| p.as_ident().map(parse::name)).collect();
        let parts = parts?;
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table),
            [schema, table] => (Some(schema.as_str()), table),
            _ => return None,
        };
        // Only this block's own range table: a row of an outer one can't be told from here.
        let entry = self.find_entry(self.scope, schema, table)?;
        let columns = &self.scopes.get(self.scope)?.entries.get(entry)?.columns;
        (!columns.incomplete).then(|| columns.list.iter().cloned().map(into_output).collect())
    }

    fn group_by(
        &mut self,
        group_by: &'t GroupByExpr,
        output: &[Output],
        made: &mut Select,
    ) -> Lowered<()> {
        let GroupByExpr::Expressions(items, modifiers) = group_by else {
            return foreign("GROUP BY ALL");
        };
        if !modifiers.is_empty() {
            return unsupported("GROUP BY … WITH");
        }
        for item in items {
            match item {
                Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                    made.grouping_sets = true;
                    made.group_by.push(None);
                    self.walk(item)?;
                }
                Expr::Tuple(parts) => {
                    for part in parts {
                        let column = self.group_item(part, output)?;
                        made.group_by.push(column);
                    }
                }
                other => {
                    let column = self.group_item(other, output)?;
                    made.group_by.push(column);
                }
            }
        }
        Ok(())
    }

    /// A GROUP BY item: an input column, an output column by its number or name, or something else
    /// (`findTargetlistEntrySQL92`).
    fn group_item(&mut self, item: &'t Expr, output: &[Output]) -> Lowered<Option<ColumnRef>> {
        let column_of = |o: &Output| match o.expr {
            IrExpr::Column(column) => Some(column),
            IrExpr::Scalar(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => None,
        };
        if let Expr::Value(value) = item
            && let ast::Value::Number(digits, _) = &value.value
        {
            // A number that is a literal of the shape may be another one next time.
            let fixed = parse::span(value.span).is_some_and(|span| self.slot(span).is_none());
            let index =
                digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).filter(|_| fixed);
            return Ok(index.and_then(|i| output.get(i)).and_then(column_of));
        }
        if let Expr::Identifier(ident) = item {
            let name = parse::name(ident);
            if let Some(found) = self.resolve_here(self.scope, &name) {
                return Ok(self.noted(found).column());
            }
            let mut named = output.iter().filter(|o| o.name == name);
            if let Some(found) = named.next() {
                return Ok(if named.next().is_none() { column_of(found) } else { None });
            }
        }
        Ok(match self.expr(item)? {
            IrExpr::Column(column) => Some(column),
            IrExpr::Scalar(_) | IrExpr::Excluded(_) | IrExpr::Default | IrExpr::Other => None,
        })
    }
}

fn into_output(visible: super::scope::Visible) -> Output {
    let expr = visible.column.map_or(IrExpr::Other, IrExpr::Column);
    Output { name: visible.name, expr }
}

/// A CTE's query is INSERT, UPDATE, DELETE or MERGE.
fn modifies(body: &SetExpr) -> bool {
    match body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
        SetExpr::Query(query) => modifies(&query.body),
        SetExpr::Select(_)
        | SetExpr::SetOperation { .. }
        | SetExpr::Values(_)
        | SetExpr::Table(_) => false,
    }
}

/// Refuses what other databases have in a SELECT.
fn only_postgresqls(select: &ast::Select) -> Lowered<()> {
    if select.into.is_some() {
        return unsupported("INTO in a sub-select");
    }
    let foreign_clause = select.top.is_some()
        || select.select_modifiers.as_ref().is_some_and(ast::SelectModifiers::is_any_set)
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || !matches!(select.flavor, ast::SelectFlavor::Standard);
    if foreign_clause { foreign("this clause of SELECT") } else { Ok(()) }
}

fn plain_wildcard(options: &ast::WildcardAdditionalOptions) -> Lowered<()> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { Ok(()) } else { foreign("* with options") }
}

/// The name PostgreSQL gives an output column without an alias (`FigureColname`); `None` where its rules
/// depend on more than is looked at here.
fn figured_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(parse::name(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(parse::name),
        Expr::Nested(inner) => figured_name(inner),
        Expr::Function(function) => {
            function.name.0.last().and_then(ast::ObjectNamePart::as_ident).map(parse::name)
        }
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Tuple(_) => Some("row".to_owned()),
        Expr::Cast { expr, .. } => match stripped_column(expr) {
            Some(column) => figured_name(column),
            None => None,
        },
        Expr::BinaryOp { .. } | Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::InList { .. } => {
            Some(NO_NAME.to_owned())
        }
        Expr::Value(value) => match value.value {
            ast::Value::Number(..)
            | ast::Value::SingleQuotedString(_)
            | ast::Value::Null
            | ast::Value::Placeholder(_) => Some(NO_NAME.to_owned()),
            _ => None,
        },
        _ => None,
    }
}

fn stripped_column(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Nested(inner) => stripped_column(inner),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) => Some(expr),
        _ => None,
    }
}
