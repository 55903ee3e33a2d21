//! FROM: tables, joins, derived tables, functions, CTE references, views.

use std::ops::Range;
use std::sync::Arc;

use sqlparser::ast::{
    self, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins,
    XmlTableColumnOption,
};

use super::super::ir::{
    BlockId, BlockKind, ColumnRef, Expr, FromTree, JoinKind, Pred, Source, SourceId, SourceKind,
    Span, SubqueryPlace, ViewUse,
};
use super::super::parse;
use super::super::tokens;
use super::opaque;
use super::scope::{Columns, Entry, Outside, Visible};
use super::{Lowered, Lowering, Text, VIEW_DEPTH_MAX, foreign, unsupported};
use crate::catalog::{Names, RelationKind, Table};
use crate::datum::Oid;

/// Schemas of PostgreSQL's own relations.
const SYSTEM_SCHEMAS: &[&str] = &["pg_catalog", "information_schema", "pg_toast"];

/// Through more derived tables than this a column's type is not followed.
const DERIVED_DEPTH_MAX: usize = 32;

/// What a relation's name means.
pub(super) enum Meaning {
    Table(Arc<Table>),
    Open((String, String)),
    System,
    Unknown(String),
}

impl<'t> Lowering<'t, '_> {
    /// Lowers FROM; its columns become visible in the current scope.
    pub(super) fn range_table(&mut self, from: &'t [TableWithJoins]) -> Lowered<FromTree> {
        let mut tree = FromTree::Empty;
        for item in from {
            let (part, columns) = self.join_tree(item)?;
            self.scope_mut().visible.append(&columns);
            tree = match tree {
                FromTree::Empty => part,
                left => join(JoinKind::Inner, left, part, Pred::True),
            };
        }
        if has_outer_join(&tree) {
            // An inner join's ON may stand on the null side of an outer one: then WHERE does not restrict
            // the rows it is evaluated for.
            let block = self.block;
            for subquery in &mut self.block_mut(block)?.subqueries {
                if subquery.place == SubqueryPlace::Filter {
                    subquery.place = SubqueryPlace::OuterJoin;
                }
            }
        }
        Ok(tree)
    }

    fn join_tree(&mut self, item: &'t TableWithJoins) -> Lowered<(FromTree, Columns)> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.join_tree_inner(item))
    }

    fn join_tree_inner(&mut self, item: &'t TableWithJoins) -> Lowered<(FromTree, Columns)> {
        let first_entry = self.scope_mut().entries.len();
        let (mut tree, mut columns) = self.factor(&item.relation)?;
        for joined in &item.joins {
            if joined.global {
                return foreign("GLOBAL JOIN");
            }
            let (kind, constraint) = join_kind(&joined.join_operator)?;
            // LATERAL sees what stands to the left of it.
            let saved = self.scope_mut().visible.clone();
            self.scope_mut().visible.append(&columns);
            let right_entry = self.scope_mut().entries.len();
            let right = self.factor(&joined.relation);
            self.scope_mut().visible = saved;
            let (right_tree, right_columns) = right?;
            let (on, merged) = self.constraint(
                constraint,
                kind,
                (columns, right_columns),
                first_entry..right_entry,
            )?;
            tree = join(kind, tree, right_tree, on);
            columns = merged;
        }
        Ok((tree, columns))
    }

    /// Lowers ON, USING or NATURAL; gives the predicate and the columns of the join.
    fn constraint(
        &mut self,
        constraint: &'t JoinConstraint,
        kind: JoinKind,
        (mut left, mut right): (Columns, Columns),
        left_entries: Range<usize>,
    ) -> Lowered<(Pred, Columns)> {
        let first_entry = left_entries.start;
        match constraint {
            JoinConstraint::On(condition) => {
                left.append(&right);
                let place = if kind == JoinKind::Inner {
                    SubqueryPlace::Filter
                } else {
                    SubqueryPlace::OuterJoin
                };
                let outer_visible = std::mem::replace(&mut self.scope_mut().visible, left.clone());
                let outer_window = std::mem::replace(&mut self.scope_mut().window, first_entry);
                let pred = self.at_place(place, |this| this.pred(condition));
                self.scope_mut().visible = outer_visible;
                self.scope_mut().window = outer_window;
                self.refresh(&mut left, first_entry);
                Ok((pred?, left))
            }
            JoinConstraint::Using(names) => {
                let names: Option<Vec<_>> = names.iter().map(single_name).collect();
                let Some(names) = names else { return foreign("a qualified name in USING") };
                Ok(self.using(&names, kind, (left, right), &left_entries))
            }
            JoinConstraint::Natural => {
                if left.incomplete || right.incomplete {
                    return unsupported("NATURAL JOIN of tables whose columns are not known");
                }
                let common = left.list.iter().map(|v| v.name.clone());
                let common: Vec<_> =
                    common.filter(|n| right.list.iter().any(|v| v.name == *n)).collect();
                Ok(self.using(&common, kind, (left, right), &left_entries))
            }
            JoinConstraint::None => {
                left.list.append(&mut right.list);
                left.incomplete |= right.incomplete;
                Ok((Pred::True, left))
            }
        }
    }

    /// Takes over the columns that an open table has got since `columns` was made.
    fn refresh(&mut self, columns: &mut Columns, first_entry: usize) {
        for entry in self.scope_mut().entries.iter().skip(first_entry).filter(|e| e.open.is_some())
        {
            for column in &entry.columns.list {
                if !columns.list.iter().any(|v| v.column == column.column) {
                    columns.list.push(column.clone());
                }
            }
        }
    }

    /// Columns merged by name: first in the join's columns, one for both sides.
    fn using(
        &mut self,
        names: &[String],
        kind: JoinKind,
        (mut left, mut right): (Columns, Columns),
        left_entries: &Range<usize>,
    ) -> (Pred, Columns) {
        let right_entries = left_entries.end..self.scope_mut().entries.len();
        let mut equalities = Vec::with_capacity(names.len());
        let mut merged = Vec::with_capacity(names.len());
        for name in names {
            let l = self.take_column(&mut left, left_entries, name);
            let r = self.take_column(&mut right, &right_entries, name);
            equalities.push(match (l, r) {
                (Some(l), Some(r)) => Pred::EqColumns(l, r),
                _ => Pred::Unknown,
            });
            // The merged column has the type that both sides have in common, and so have the literals that
            // it is compared with.
            let column = match kind {
                _ if !self.same_type(l, r) => None,
                JoinKind::Inner | JoinKind::Left => l,
                JoinKind::Right => r,
                JoinKind::Full => None,
            };
            merged.push(Visible { name: name.clone(), column });
        }
        merged.append(&mut left.list);
        merged.append(&mut right.list);
        let incomplete = left.incomplete || right.incomplete;
        (Pred::And(equalities), Columns { list: merged, incomplete })
    }

    /// Whether two columns are known to have one type.
    fn same_type(&self, l: Option<ColumnRef>, r: Option<ColumnRef>) -> bool {
        let oid = |column: Option<ColumnRef>| column.and_then(|column| self.type_oid(column));
        oid(l).is_some_and(|l| oid(r) == Some(l))
    }

    /// The type of a table's column, through the derived tables that hand it on.
    fn type_oid(&self, mut column: ColumnRef) -> Option<Oid> {
        for _ in 0..DERIVED_DEPTH_MAX {
            match &self.arena.sources.get(column.source as usize)?.kind {
                SourceKind::Table(table) => {
                    return table.columns.get(usize::from(column.column)).map(|c| c.type_oid);
                }
                SourceKind::Derived(block) => {
                    let block = self.arena.blocks.get(*block as usize)?;
                    let BlockKind::Select(_) = block.kind else { return None };
                    let output = block.output.get(usize::from(column.column))?;
                    let Expr::Column(inner) = output.expr else { return None };
                    column = inner;
                }
                _ => return None,
            }
        }
        None
    }

    /// Takes the only column of this name out of the list.
    fn take_column(
        &mut self,
        columns: &mut Columns,
        side: &Range<usize>,
        name: &str,
    ) -> Option<ColumnRef> {
        let matches = columns.list.iter().filter(|v| v.name == name).count();
        if matches == 0 && columns.incomplete {
            return self.open_column_of(side, name);
        }
        let found = columns.list.iter().find(|v| v.name == name).and_then(|v| v.column);
        self.arena
            .used
            .extend(columns.list.iter().filter(|v| v.name == name).filter_map(|v| v.column));
        columns.list.retain(|v| v.name != name);
        if matches == 1 { found } else { None }
    }

    /// In a side of a join that is one open table alone, any column exists.
    fn open_column_of(&mut self, side: &Range<usize>, name: &str) -> Option<ColumnRef> {
        let scope = self.scope;
        let [Entry { open: Some(_), .. }] = self.scope_mut().entries.get(side.clone())? else {
            return None;
        };
        let before = self.scope_mut().visible.list.len();
        let column = self.add_open_column(scope, side.start, name);
        self.scope_mut().visible.list.truncate(before);
        column
    }

    pub(super) fn factor(&mut self, factor: &'t TableFactor) -> Lowered<(FromTree, Columns)> {
        let (source, columns) = match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                if sample.is_some() {
                    return unsupported("TABLESAMPLE");
                }
                let foreign_part = version.is_some()
                    || json_path.is_some()
                    || !partitions.is_empty()
                    || !index_hints.is_empty();
                if foreign_part || !with_hints.is_empty() {
                    return foreign("this clause after a table's name");
                }
                match args {
                    Some(args) if args.settings.is_none() => {
                        self.function_name(name)?;
                        for argument in &args.args {
                            self.at_place(SubqueryPlace::Other, |this| this.argument(argument))?;
                        }
                        self.function_source(Some(name), alias.as_ref())?
                    }
                    Some(_) => return foreign("SETTINGS"),
                    None if *with_ordinality => {
                        return foreign("WITH ORDINALITY after a table's name");
                    }
                    None => self.relation(name, alias.as_ref())?,
                }
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                if sample.is_some() {
                    return unsupported("TABLESAMPLE");
                }
                self.derived(*lateral, subquery, alias.as_ref())?
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                self.function_name(name)?;
                for argument in args {
                    self.at_place(SubqueryPlace::Other, |this| this.argument(argument))?;
                }
                self.function_source(Some(name), alias.as_ref())?
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias,
                with_ordinality: _,
            } => {
                if *with_offset || with_offset_alias.is_some() {
                    return foreign("WITH OFFSET");
                }
                self.call("unnest", None, Span::default());
                self.at_place(SubqueryPlace::Other, |this| this.walk_all(array_exprs))?;
                self.function_source(None, alias.as_ref())?
            }
            TableFactor::XmlTable { namespaces, row_expression, passing, columns, alias } => {
                self.at_place(SubqueryPlace::Other, |this| {
                    this.walk_all(namespaces.iter().map(|n| &n.uri))?;
                    this.walk(row_expression)?;
                    this.walk_all(passing.arguments.iter().map(|a| &a.expr))?;
                    for column in columns {
                        match &column.option {
                            XmlTableColumnOption::NamedInfo {
                                r#type: _,
                                path,
                                default,
                                nullable: _,
                            } => {
                                this.walk_all(path.iter().chain(default))?;
                            }
                            XmlTableColumnOption::ForOrdinality => {}
                        }
                    }
                    Ok::<(), String>(())
                })?;
                self.function_source(None, alias.as_ref())?
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                return self.join_tree(table_with_joins);
            }
            TableFactor::NestedJoin { alias: Some(_), .. } => {
                return unsupported("an alias of a join");
            }
            TableFactor::TableFunction { .. } => return foreign("TABLE(…)"),
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => {
                return unsupported("JSON_TABLE");
            }
            TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. } => {
                return foreign("PIVOT");
            }
            TableFactor::MatchRecognize { .. } => return foreign("MATCH_RECOGNIZE"),
            TableFactor::SemanticView { .. } => return foreign("SEMANTIC_VIEW"),
        };
        Ok((FromTree::Source(source), columns))
    }

    /// A name in FROM: a CTE, a table, a view.
    fn relation(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&TableAlias>,
    ) -> Lowered<(SourceId, Columns)> {
        let (schema, table) = relation_name(name)?;
        let span = self.name_span(name);
        if schema.is_none()
            && let Some((scope, index)) = self.find_cte(&table)
        {
            return self.cte_reference(scope, index, table, span, alias);
        }
        let block = self.block;
        match self.meaning(schema.as_deref(), &table) {
            Meaning::Table(found) if found.kind == RelationKind::View => {
                let view = self.view_block(&found, span, block)?;
                self.note_view(&found, span, alias)?;
                let names = Named { name: table, schema: Some(found.schema.clone()), span, alias };
                self.derived_source(view, &names)
            }
            meaning => {
                let view = match &meaning {
                    Meaning::Table(found) if found.kind == RelationKind::MaterializedView => {
                        Some(opaque::beneath(found, self.catalog, &self.names))
                    }
                    _ => None,
                };
                let (source, entry) = self.table_entry(meaning, table, span, alias)?;
                self.arena.materialized.extend(view.map(|tables| (source, tables)));
                let columns = entry.columns.clone();
                self.scope_mut().entries.push(entry);
                Ok((source, columns))
            }
        }
    }

    /// What a relation's name means, CTEs aside.
    pub(super) fn meaning(&self, schema: Option<&str>, name: &str) -> Meaning {
        if schema.is_some_and(|s| SYSTEM_SCHEMAS.contains(&s)) {
            return Meaning::System;
        }
        if let Some(table) = self.catalog.resolve(&self.names, schema, name) {
            return Meaning::Table(table);
        }
        if schema.is_none() && name.starts_with("pg_") {
            return Meaning::System;
        }
        if self.catalog.open {
            return Meaning::Open((schema.unwrap_or("public").to_owned(), name.to_owned()));
        }
        Meaning::Unknown(schema.map_or_else(|| name.to_owned(), |s| format!("{s}.{name}")))
    }

    /// A source that is a table, with its entry in the range table, which the caller adds.
    pub(super) fn table_entry(
        &mut self,
        meaning: Meaning,
        name: String,
        span: Span,
        alias: Option<&TableAlias>,
    ) -> Lowered<(SourceId, Entry)> {
        let (kind, schema, known, open) = match meaning {
            Meaning::Table(table) => {
                let names = table
                    .columns_known
                    .then(|| table.columns.iter().map(|c| c.name.clone()).collect());
                let schema = Some(table.schema.clone());
                (SourceKind::Table(table), schema, names, None)
            }
            Meaning::Open(key) => {
                self.arena.open.entry(key.clone()).or_default();
                (SourceKind::Unknown(name.clone()), Some(key.0.clone()), None, Some(key))
            }
            Meaning::System => (SourceKind::SystemCatalog, None, None, None),
            Meaning::Unknown(written) => (SourceKind::Unknown(written), None, None, None),
        };
        let named = Named { name, schema, span, alias };
        let source = self.push_source(kind, &named)?;
        let renamed = alias.is_some_and(|a| !a.columns.is_empty());
        if let Some(key) = &open {
            self.arena.open_sources.push((source, key.clone()));
        }
        let columns = columns_of(source, known, alias)?;
        if renamed {
            // They are renamed by their place.
            self.arena.used.extend(columns.list.iter().filter_map(|visible| visible.column));
        }
        let open = open.filter(|_| !renamed);
        Ok((source, named.entry(Some(source), columns, open)))
    }

    /// Adds a source by its name and alias.
    fn push_source(&mut self, kind: SourceKind, named: &Named<'_>) -> Lowered<SourceId> {
        if named.alias.is_some_and(|a| a.at.is_some()) {
            return foreign("AT after an alias");
        }
        let end = named.alias.map_or(named.span.end, |a| self.alias_end(a));
        let (name, span, block) = (named.visible_name(), named.span, self.block);
        let before = self.word_before(span.start);
        let alone = before == Some("only");
        let only = before.is_some();
        self.add_source(Source {
            kind,
            name,
            span,
            end,
            aliased: named.alias.is_some(),
            only,
            alone,
            block,
        })
    }

    /// Where an alias with its column list ends.
    pub(super) fn alias_end(&self, alias: &TableAlias) -> u32 {
        let Text { sql: text, tokens, view, .. } = self.text;
        let name = self.span(alias.name.span);
        if let Some(view) = view {
            return view.end;
        }
        if alias.columns.is_empty() {
            return name.end;
        }
        let open = tokens::index_at(tokens, name.end);
        tokens.get(tokens::closing(tokens, text, open)).map_or(name.end, |t| t.end)
    }

    /// ONLY, or TABLE in the place of SELECT, if it stands before the name at `start`.
    fn word_before(&self, start: u32) -> Option<&'static str> {
        let Text { sql: text, tokens, view, .. } = self.text;
        let mut before = tokens::index_at(tokens, start);
        if view.is_some() {
            return None;
        }
        while before > 0 {
            before -= 1;
            match tokens.get(before) {
                Some(token) if token.is(text, "(") => {}
                Some(token) => {
                    return ["only", "table"].into_iter().find(|word| token.is_word(text, word));
                }
                None => return None,
            }
        }
        None
    }

    fn cte_reference(
        &mut self,
        scope: usize,
        index: usize,
        name: String,
        span: Span,
        alias: Option<&TableAlias>,
    ) -> Lowered<(SourceId, Columns)> {
        let named = Named { name, schema: None, span, alias };
        if self.active.contains(&(scope, index)) {
            if let Some(cte) = self.scopes.get_mut(scope).and_then(|s| s.ctes.get_mut(index)) {
                cte.recursive = true;
            }
            let source = self.push_source(SourceKind::RecursiveSelf, &named)?;
            let columns = Columns { list: Vec::new(), incomplete: true };
            self.scope_mut().entries.push(named.entry(Some(source), columns.clone(), None));
            return Ok((source, columns));
        }
        let block = self.block;
        let made = self.cte_block(scope, index, block)?;
        let cte = self.scopes.get(scope).and_then(|s| s.ctes.get(index)).map(|c| c.definition);
        self.rename_output(made, cte.map(|c| &c.alias))?;
        self.derived_source(made, &named)
    }

    /// Gives a block's outputs the names of a CTE's column list.
    fn rename_output(&mut self, block: BlockId, alias: Option<&TableAlias>) -> Lowered<()> {
        let Some(alias) = alias else { return Ok(()) };
        for (output, column) in self.block_mut(block)?.output.iter_mut().zip(&alias.columns) {
            output.name = parse::name(&column.name);
        }
        Ok(())
    }

    fn derived(
        &mut self,
        lateral: bool,
        query: &'t ast::Query,
        alias: Option<&TableAlias>,
    ) -> Lowered<(SourceId, Columns)> {
        let outside =
            Outside { block: Some(self.block), scope: self.scope, hide: !lateral, ctes: None };
        let block = self.query(query, outside)?;
        let span = self.block_mut(block)?.span;
        let name = String::new();
        self.derived_source(block, &Named { name, schema: None, span, alias })
    }

    fn derived_source(
        &mut self,
        block: BlockId,
        named: &Named<'_>,
    ) -> Lowered<(SourceId, Columns)> {
        let source = self.push_source(SourceKind::Derived(block), named)?;
        let output = &self.block_mut(block)?.output;
        let names = (!output.is_empty()).then(|| output.iter().map(|o| o.name.clone()).collect());
        let columns = columns_of(source, names, named.alias)?;
        self.scope_mut().entries.push(named.entry(Some(source), columns.clone(), None));
        Ok((source, columns))
    }

    /// A function in FROM: its columns are rows out of arguments, and their names may not be known.
    fn function_source(
        &mut self,
        name: Option<&ast::ObjectName>,
        alias: Option<&TableAlias>,
    ) -> Lowered<(SourceId, Columns)> {
        let span = name.map(|n| self.name_span(n)).unwrap_or_default();
        let written =
            name.and_then(|n| n.0.last()).and_then(ast::ObjectNamePart::as_ident).map(parse::name);
        let named = Named { name: written.unwrap_or_default(), schema: None, span, alias };
        let source = self.push_source(SourceKind::Function, &named)?;
        let listed = alias.map(|a| a.columns.as_slice()).unwrap_or_default();
        let list =
            listed.iter().map(|c| Visible { name: parse::name(&c.name), column: None }).collect();
        let columns = Columns { list, incomplete: true };
        self.scope_mut().entries.push(named.entry(Some(source), columns.clone(), None));
        Ok((source, columns))
    }

    /// Lowers a view's definition as a block of this statement.
    fn view_block(&mut self, view: &Table, span: Span, parent: BlockId) -> Lowered<BlockId> {
        let unreadable =
            |reason: String| format!("the view \"{}\" could not be read: {reason}", view.name);
        let Some(definition) = &view.view_definition else {
            return Err(unreadable("its definition is not known".to_owned()));
        };
        if self.arena.view_depth >= VIEW_DEPTH_MAX {
            return Err(unreadable("views are nested too deep".to_owned()));
        }
        let text = definition.trim_end().trim_end_matches(';');
        let tokens = tokens::tokenize(text, None).map_err(|f| unreadable(f.reason.to_owned()))?;
        let path = [view.schema.clone(), "public".to_owned()];
        let names = Names { search_path: &path, user: self.names.user };
        let written = self.text.view.unwrap_or(span);
        self.arena.view_depth += 1;
        let block = parse::on_deep_stack(tokens.len(), || {
            let statement = parse::parse(text, &tokens)?;
            let ast::Statement::Query(query) = &statement else {
                return Err("it is not a query".to_owned());
            };
            let text = Text::new(text, &tokens, Some(written));
            let mut lowering = Lowering::new(&mut *self.arena, text, self.catalog, names);
            lowering.query(query, Outside { block: Some(parent), ..Outside::top() })
        });
        self.arena.view_depth -= 1;
        let block = block.map_err(unreadable)?;
        if view.columns_known {
            let output = &mut self.block_mut(block)?.output;
            if !output.is_empty() && output.len() != view.columns.len() {
                return Err(unreadable("its columns are not those of its query".to_owned()));
            }
            for (output, column) in output.iter_mut().zip(&view.columns) {
                output.name.clone_from(&column.name);
            }
        }
        Ok(block)
    }

    /// Keeps a view that the statement's own text refers to, with its definition's analysis.
    fn note_view(
        &mut self,
        view: &Arc<Table>,
        span: Span,
        alias: Option<&TableAlias>,
    ) -> Lowered<()> {
        if self.text.view.is_some() {
            return Ok(());
        }
        let definition = view.view_definition.as_deref().unwrap_or_default();
        let text = definition.trim_end().trim_end_matches(';').to_owned();
        let tokens = tokens::tokenize(&text, None).map_err(|fault| fault.reason.to_owned())?;
        let path = [view.schema.clone(), "public".to_owned()];
        let names = Names { search_path: &path, user: self.names.user };
        let super::Statement::Query(body) =
            super::analyze_tokens(&text, &tokens, self.catalog, &names)
        else {
            return Err(format!("the view \"{}\" is not a query", view.name));
        };
        let only = self.word_before(span.start) == Some("only");
        self.arena.views.push(ViewUse {
            view: Arc::clone(view),
            span,
            name: alias.map_or_else(|| view.name.clone(), |a| parse::name(&a.name)),
            aliased: alias.is_some(),
            only,
            text,
            body: Box::new(body),
        });
        Ok(())
    }

    /// Where a possibly qualified name stands.
    pub(super) fn name_span(&self, name: &ast::ObjectName) -> Span {
        let ident = |part: Option<&ast::ObjectNamePart>| {
            part.and_then(ast::ObjectNamePart::as_ident)
                .map(|i| self.span(i.span))
                .unwrap_or_default()
        };
        Span { start: ident(name.0.first()).start, end: ident(name.0.last()).end }
    }
}

/// A range-table entry's names.
struct Named<'n> {
    name: String,
    schema: Option<String>,
    span: Span,
    alias: Option<&'n TableAlias>,
}

impl Named<'_> {
    fn visible_name(&self) -> String {
        self.alias.map_or_else(|| self.name.clone(), |a| parse::name(&a.name))
    }

    fn entry(
        &self,
        source: Option<SourceId>,
        columns: Columns,
        open: Option<(String, String)>,
    ) -> Entry {
        let schema = if self.alias.is_some() { None } else { self.schema.clone() };
        Entry { name: self.visible_name(), schema, source, columns, open }
    }
}

/// The columns of a source; `names` as the source has them, `None` if they are not known. An alias's
/// column list renames the first ones.
fn columns_of(
    source: SourceId,
    names: Option<Vec<String>>,
    alias: Option<&TableAlias>,
) -> Lowered<Columns> {
    let renamed = alias.map(|a| a.columns.as_slice()).unwrap_or_default();
    let Some(mut names) = names else {
        let list =
            renamed.iter().map(|c| Visible { name: parse::name(&c.name), column: None }).collect();
        return Ok(Columns { list, incomplete: true });
    };
    for (name, column) in names.iter_mut().zip(renamed) {
        *name = parse::name(&column.name);
    }
    let mut list = Vec::with_capacity(names.len());
    let mut incomplete = false;
    for (index, name) in names.into_iter().enumerate() {
        let column =
            u16::try_from(index).map_err(|_| "a table with more than 65535 columns".to_owned())?;
        incomplete |= name.is_empty();
        list.push(Visible { name, column: Some(ColumnRef { source, column }) });
    }
    Ok(Columns { list, incomplete })
}

fn join(kind: JoinKind, left: FromTree, right: FromTree, on: Pred) -> FromTree {
    FromTree::Join { kind, left: Box::new(left), right: Box::new(right), on }
}

fn has_outer_join(tree: &FromTree) -> bool {
    match tree {
        FromTree::Empty | FromTree::Source(_) => false,
        FromTree::Join { kind, left, right, on: _ } => {
            *kind != JoinKind::Inner || has_outer_join(left) || has_outer_join(right)
        }
    }
}

fn join_kind(operator: &JoinOperator) -> Lowered<(JoinKind, &JoinConstraint)> {
    let (kind, constraint) = match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) => (JoinKind::Inner, c),
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (JoinKind::Left, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (JoinKind::Right, c),
        JoinOperator::FullOuter(c) => (JoinKind::Full, c),
        JoinOperator::CrossJoin(c @ JoinConstraint::None) => return Ok((JoinKind::Inner, c)),
        JoinOperator::CrossJoin(_) => return foreign("CROSS JOIN … ON"),
        JoinOperator::Semi(_)
        | JoinOperator::LeftSemi(_)
        | JoinOperator::RightSemi(_)
        | JoinOperator::Anti(_)
        | JoinOperator::LeftAnti(_)
        | JoinOperator::RightAnti(_)
        | JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::AsOf { .. }
        | JoinOperator::StraightJoin(_)
        | JoinOperator::ArrayJoin
        | JoinOperator::LeftArrayJoin
        | JoinOperator::InnerArrayJoin => return foreign("this kind of join"),
    };
    match constraint {
        JoinConstraint::None => foreign("a join without ON"),
        JoinConstraint::On(_) | JoinConstraint::Using(_) | JoinConstraint::Natural => {
            Ok((kind, constraint))
        }
    }
}

fn single_name(name: &ast::ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(parse::name),
        _ => None,
    }
}

/// Schema and name of a relation; a database's name before them is dropped, as it can only be this one.
pub(super) fn relation_name(name: &ast::ObjectName) -> Lowered<(Option<String>, String)> {
    let parts: Option<Vec<_>> = name.0.iter().map(|p| p.as_ident().map(parse::name)).collect();
    match parts.as_deref() {
        Some([table]) => Ok((None, table.clone())),
        Some([schema, table] | [_, schema, table]) => Ok((Some(schema.clone()), table.clone())),
        _ => unsupported("this form of a table's name"),
    }
}
