//! INSERT, UPDATE, DELETE, MERGE, with the positions at which a key or a conjunct can be put in.

use std::sync::Arc;

use sqlparser::ast::{
    self, AssignmentTarget, CastKind, FromTable, FunctionArguments, MergeClauseKind,
    MergeInsertKind, MergeUpdateKind, OnConflictAction, OnInsert, SetExpr, TableAlias, TableFactor,
    TableObject, TableWithJoins, UpdateTableFromKind,
};

use super::super::functions;
use super::super::ir::{
    Assignment, BlockId, BlockKind, ColumnRef, Delete, Expr as IrExpr, FromTree, Insert, InsertRow,
    InsertRows, JoinKind, Merge, MergeAction, OnConflict, Open, Pred, SourceId, SourceKind, Span,
    SubqueryPlace, Update,
};
use super::super::parse;
use super::super::tokens::{self, Token};
use super::expr::is_default;
use super::opaque::not_known;
use super::relations::{Meaning, Named, relation_name};
use super::scalar::key_type;
use super::scope::{Columns, Entry, Outside, Scope, ScopeId, Visible};
use super::views::WrittenColumns;
use super::{Lowered, Lowering, Text, foreign, unsupported};
use crate::catalog::{DefaultValue, RelationKind, Table};
use crate::datum::oid;

/// The table that is written.
struct Target {
    source: SourceId,
    table: Option<Arc<Table>>,
    open: Option<(String, String)>,
    /// Of a view through which it is written: the columns' names, and which of the table's they are.
    through: Option<WrittenColumns>,
}

impl<'t> Lowering<'t, '_> {
    /// Lowers a data-modifying statement.
    pub(super) fn modification(
        &mut self,
        statement: &'t ast::Statement,
        parent: Option<BlockId>,
        scope: ScopeId,
    ) -> Lowered<BlockId> {
        let token = match statement {
            ast::Statement::Insert(insert) => &insert.insert_token,
            ast::Statement::Update(update) => &update.update_token,
            ast::Statement::Delete(delete) => &delete.delete_token,
            ast::Statement::Merge(merge) => &merge.merge_token,
            _ => return unsupported("this statement in a query"),
        };
        let span = self.span_from(self.span(token.0.span).start);
        let block = self.begin_block(parent, span)?;
        self.block = block;
        self.scope = self.push_scope(Scope { parent: Some(scope), ..Scope::default() });
        self.place = SubqueryPlace::Other;
        match statement {
            ast::Statement::Insert(insert) => self.insert(insert, block),
            ast::Statement::Update(update) => self.update(update, block, span),
            ast::Statement::Delete(delete) => self.delete(delete, block, span),
            ast::Statement::Merge(merge) => self.merge(merge, block),
            _ => unsupported("this statement in a query"),
        }?;
        Ok(block)
    }

    /// Resolves the target; its entry is for the caller to add.
    fn target(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&TableAlias>,
    ) -> Lowered<(Target, Entry)> {
        let (schema, table) = relation_name(name)?;
        if alias.is_some_and(|a| !a.columns.is_empty()) {
            return foreign("a column list after the target's alias");
        }
        let meaning = self.meaning(schema.as_deref(), &table);
        let (known, open) = match &meaning {
            Meaning::Table(found) if found.kind == RelationKind::View => {
                return self.view_target(found, self.name_span(name), alias);
            }
            Meaning::Table(found) => (Some(Arc::clone(found)), None),
            Meaning::Open(key) => (None, Some(key.clone())),
            Meaning::System => return Err(format!("it writes to the system catalog \"{table}\"")),
            Meaning::Unknown(written) => {
                return Err(not_known(written));
            }
        };
        let span = self.name_span(name);
        let (source, entry) = self.table_entry(meaning, table, span, alias)?;
        Ok((Target { source, table: known, open, through: None }, entry))
    }

    /// The table that is written when a view is.
    fn view_target(
        &mut self,
        view: &Table,
        span: Span,
        alias: Option<&TableAlias>,
    ) -> Lowered<(Target, Entry)> {
        let Some((table, through)) = self.updatable(view) else {
            return Err(format!("it writes to the view \"{}\"", view.name));
        };
        let (name, schema) = (view.name.clone(), Some(view.schema.clone()));
        let named = Named { name, schema, span, alias };
        let source = self.push_source(SourceKind::Table(Arc::clone(&table)), &named)?;
        if let Some(source) = self.arena.sources.get_mut(source as usize) {
            source.through_view = true;
        }
        let visible = |(name, column): &(String, Option<u16>)| Visible {
            name: name.clone(),
            column: column.map(|column| ColumnRef { source, column }),
        };
        let columns = Columns { list: through.iter().map(visible).collect(), incomplete: false };
        let entry = named.entry(Some(source), columns, None);
        Ok((Target { source, table: Some(table), open: None, through: Some(through) }, entry))
    }

    /// Adds the target to the range table.
    fn show(&mut self, entry: Entry) {
        let scope = self.scope_mut();
        scope.visible.append(&entry.columns);
        scope.entries.push(entry);
    }

    /// The index of one of the target's columns.
    fn target_column(&mut self, target: &Target, name: &ast::Ident) -> Lowered<u16> {
        let name = parse::name(name);
        if let Some(key) = &target.open {
            let open = self.arena.open.entry(key.clone()).or_default();
            let index = open.columns.iter().position(|c| *c == name).unwrap_or_else(|| {
                open.columns.push(name);
                open.columns.len() - 1
            });
            return u16::try_from(index).map_err(|_| "too many columns".to_owned());
        }
        if let Some(through) = &target.through {
            let column = through.iter().find(|(own, _)| *own == name).and_then(|(_, at)| *at);
            return column.ok_or_else(|| format!("the view has no column \"{name}\" to write to"));
        }
        let table = target.table.as_ref();
        let column = table.and_then(|t| t.column(&name));
        column.ok_or_else(|| {
            let table = table.map(|t| t.name.as_str()).unwrap_or_default();
            format!("the table \"{table}\" is not known to have a column \"{name}\"")
        })
    }

    fn insert(&mut self, insert: &'t ast::Insert, block: BlockId) -> Lowered<()> {
        only_postgresqls_insert(insert)?;
        let TableObject::TableName(name) = &insert.table else {
            return foreign("this target of INSERT");
        };
        let alias = insert.table_alias.as_ref().map(|a| TableAlias {
            explicit: a.explicit,
            name: a.alias.clone(),
            columns: Vec::new(),
            at: None,
        });
        let (target, entry) = self.target(name, alias.as_ref())?;
        let mut rows = self.inserted(insert, block)?;
        if let (Some(_), InsertRows::Values(rows)) = (&target.through, &mut rows) {
            // A view's columns have defaults of their own.
            for row in rows {
                row.open.retain(|(_, why, _)| *why != Open::Default);
            }
        }
        let columns = self.insert_columns(insert, &target, &rows)?;
        let after = alias.as_ref().map_or_else(|| self.name_span(name).end, |a| self.alias_end(a));
        if self.overrides_user_value(insert, after) {
            Self::override_user_value(&target, &columns, &mut rows)?;
        }
        let named = !insert.columns.is_empty() && target.through.is_none();
        let columns_end = if named { self.closing_after(after) } else { None };
        self.show(entry);
        let on_conflict = match &insert.on {
            None => OnConflict::Error,
            Some(OnInsert::OnConflict(conflict)) => match &conflict.action {
                OnConflictAction::DoNothing => OnConflict::Nothing,
                OnConflictAction::DoUpdate(update) => {
                    OnConflict::Update(self.conflict_update(update, &target)?)
                }
            },
            Some(OnInsert::DuplicateKeyUpdate(_)) => return foreign("ON DUPLICATE KEY"),
            Some(_) => return foreign("this clause of INSERT"),
        };
        let output = self.output(insert.returning.as_deref().unwrap_or_default())?;
        let made = self.block_mut(block)?;
        made.output = output;
        made.kind = BlockKind::Insert(Insert {
            target: target.source,
            columns,
            columns_end,
            rows,
            on_conflict,
        });
        Ok(())
    }

    /// OVERRIDING USER VALUE behind the target and its columns.
    fn overrides_user_value(&self, insert: &ast::Insert, after: u32) -> bool {
        let Text { sql: text, tokens, .. } = self.text;
        let mut at = tokens::index_at(tokens, after);
        if !insert.columns.is_empty() {
            at = tokens::closing(tokens, text, at) + 1;
        }
        let word = |i: usize, word| tokens.get(i).is_some_and(|t: &Token| t.is_word(text, word));
        word(at, "overriding") && word(at + 1, "user")
    }

    /// An identity's column gets its default, whatever is written. (Which columns are identities is not known; all of
    /// them have a sequence.)
    fn override_user_value(target: &Target, columns: &[u16], rows: &mut InsertRows) -> Lowered<()> {
        let Some(table) = target.table.as_ref().filter(|t| t.columns_known) else {
            return unsupported("OVERRIDING USER VALUE for a table that is not known");
        };
        let by_default = |column: &u16| {
            let column = table.columns.get(usize::from(*column));
            column.is_none_or(|column| column.default == DefaultValue::Sequence)
        };
        let replaced: Vec<usize> =
            columns.iter().enumerate().filter(|(_, c)| by_default(c)).map(|(i, _)| i).collect();
        match rows {
            InsertRows::Values(rows) => {
                for row in rows {
                    row.open.retain(|(at, ..)| !replaced.contains(&usize::from(*at)));
                    for at in &replaced {
                        if let Some(value) = row.values.get_mut(*at) {
                            *value = IrExpr::Default;
                        }
                    }
                }
            }
            InsertRows::Query(_) if !replaced.is_empty() => {
                return unsupported("OVERRIDING USER VALUE for the rows of a query");
            }
            InsertRows::Query(_) | InsertRows::Defaults => {}
        }
        Ok(())
    }

    fn inserted(&mut self, insert: &'t ast::Insert, block: BlockId) -> Lowered<InsertRows> {
        let Some(source) = &insert.source else { return Ok(InsertRows::Defaults) };
        let plain = source.with.is_none()
            && source.order_by.is_none()
            && source.limit_clause.is_none()
            && source.fetch.is_none()
            && source.locks.is_empty();
        if let (true, SetExpr::Values(values)) = (plain, source.body.as_ref()) {
            if values.explicit_row || values.value_keyword {
                return foreign("VALUES ROW");
            }
            let mut rows = Vec::with_capacity(values.rows.len());
            for row in &values.rows {
                let end = self.span(row.closing_token.0.span).start;
                let open = self.open_values(&row.content);
                rows.push(InsertRow { values: self.row(&row.content)?, end, open });
            }
            return Ok(InsertRows::Values(rows));
        }
        let outside = Outside { block: Some(block), scope: self.scope, hide: false, ctes: None };
        self.query(source, outside).map(InsertRows::Query)
    }

    /// The expressions of a row that a value can be written in the place of.
    fn open_values(&self, row: &[ast::Expr]) -> Vec<(u16, Open, Span)> {
        let mut found = Vec::new();
        if self.text.view.is_some() {
            return found;
        }
        for (n, expr) in (0..).zip(row) {
            match expr {
                ast::Expr::Identifier(ident) if is_default(ident) => {
                    found.push((n, Open::Default, self.span(ident.span)));
                }
                other => {
                    let call = self.random_uuid(other);
                    found.extend(call.map(|span| (n, Open::RandomUuid, span)));
                }
            }
        }
        found
    }

    /// Where the call stands, if the expression is nothing but one that makes a random UUID, or a cast of that.
    fn random_uuid(&self, expr: &ast::Expr) -> Option<Span> {
        match expr {
            ast::Expr::Nested(inner) => self.random_uuid(inner),
            ast::Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } if matches!(key_type(data_type)?, oid::UUID | oid::TEXT | oid::VARCHAR) => {
                self.random_uuid(expr)
            }
            ast::Expr::Function(function) => {
                let start = self.random_uuid_call(function)?;
                let Text { sql: text, tokens, .. } = self.text;
                let name = tokens::index_at(tokens, start);
                let open = tokens.get(name..)?.iter().position(|token| token.is(text, "("))?;
                let end = tokens.get(tokens::closing(tokens, text, name + open))?.end;
                Some(Span { start, end })
            }
            _ => None,
        }
    }

    /// Where it begins, if it is a call without arguments that makes a random UUID.
    pub(super) fn random_uuid_call(&self, function: &ast::Function) -> Option<u32> {
        let none = match &function.args {
            FunctionArguments::List(list) => {
                list.args.is_empty()
                    && list.clauses.is_empty()
                    && list.duplicate_treatment.is_none()
            }
            FunctionArguments::None | FunctionArguments::Subquery(_) => false,
        };
        let bare = none
            && function.over.is_none()
            && function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && !function.uses_odbc_syntax;
        let (schema, name) = match function.name.0.as_slice() {
            [ast::ObjectNamePart::Identifier(name)] => (None, name),
            [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(name)] => {
                (Some(schema), name)
            }
            _ => return None,
        };
        let start = self.span(schema.unwrap_or(name).span).start;
        let (schema, name) = (schema.map(parse::name), parse::name(name));
        let names = &self.names;
        (bare && functions::makes_random_uuid(&name, schema.as_deref(), self.catalog, names))
            .then_some(start)
    }

    /// The target's columns that get values.
    fn insert_columns(
        &mut self,
        insert: &ast::Insert,
        target: &Target,
        rows: &InsertRows,
    ) -> Lowered<Vec<u16>> {
        if !insert.columns.is_empty() {
            let mut columns = Vec::with_capacity(insert.columns.len());
            for name in &insert.columns {
                let Some(first) = name.0.first().and_then(ast::ObjectNamePart::as_ident) else {
                    return foreign("this name of a column");
                };
                if name.0.len() > 1 {
                    return unsupported("a field of a column in an INSERT's column list");
                }
                columns.push(self.target_column(target, first)?);
            }
            return Ok(columns);
        }
        let Some(table) = target.table.as_ref().filter(|t| t.columns_known) else {
            return Err("its target's columns are not known, and it lists none".to_owned());
        };
        let width = match rows {
            InsertRows::Values(rows) => rows.iter().map(|row| row.values.len()).max().unwrap_or(0),
            InsertRows::Query(query) => {
                let output = self.block_mut(*query)?.output.len();
                if output == 0 { table.columns.len() } else { output }
            }
            InsertRows::Defaults => 0,
        };
        if let Some(through) = &target.through {
            let columns = through.iter().take(width).map(|(_, column)| *column);
            let columns: Option<Vec<u16>> = columns.collect();
            let columns = columns.filter(|columns| columns.len() == width && width > 0);
            return columns.ok_or_else(|| "the view has other columns to write to".to_owned());
        }
        if width > table.columns.len() {
            return Err("it has more expressions than the target has columns".to_owned());
        }
        (0..width).map(|i| u16::try_from(i).map_err(|_| "too many columns".to_owned())).collect()
    }

    /// The position of the `)` that closes the `(` after `offset`.
    fn closing_after(&self, offset: u32) -> Option<u32> {
        let Text { sql: text, tokens, .. } = self.text;
        let open = tokens::index_at(tokens, offset);
        tokens.get(open).filter(|t| t.is(text, "("))?;
        tokens.get(tokens::closing(tokens, text, open)).map(|t| t.start)
    }

    /// DO UPDATE: besides the target, `excluded` is visible.
    fn conflict_update(
        &mut self,
        update: &'t ast::DoUpdate,
        target: &Target,
    ) -> Lowered<Vec<Assignment>> {
        let visible = self.scope_mut().visible.clone();
        let list =
            visible.list.iter().map(|v| Visible { name: v.name.clone(), column: None }).collect();
        let columns = Columns { list, incomplete: true };
        self.show(Entry {
            name: "excluded".to_owned(),
            schema: None,
            source: None,
            columns,
            open: None,
        });
        let assignments = self.assignments(&update.assignments, target)?;
        if let Some(condition) = &update.selection {
            self.walk(condition)?;
        }
        let scope = self.scope_mut();
        scope.entries.pop();
        scope.visible = visible;
        Ok(assignments)
    }

    fn assignments(
        &mut self,
        assignments: &'t [ast::Assignment],
        target: &Target,
    ) -> Lowered<Vec<Assignment>> {
        let mut made = Vec::with_capacity(assignments.len());
        for assignment in assignments {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let (column, whole) = self.assigned(name, target)?;
                    let value = self.assigned_value(&assignment.value, target)?;
                    made.push(Assignment {
                        column,
                        value: if whole { value } else { IrExpr::Other },
                    });
                }
                AssignmentTarget::Tuple(names) => {
                    let values = match &assignment.value {
                        ast::Expr::Tuple(items) if items.len() == names.len() => {
                            items.iter().map(Some).collect()
                        }
                        other => {
                            self.walk(other)?;
                            vec![None; names.len()]
                        }
                    };
                    for (name, value) in names.iter().zip(values) {
                        let (column, whole) = self.assigned(name, target)?;
                        let value = match value {
                            Some(value) => self.assigned_value(value, target)?,
                            None => IrExpr::Other,
                        };
                        made.push(Assignment {
                            column,
                            value: if whole { value } else { IrExpr::Other },
                        });
                    }
                }
            }
        }
        Ok(made)
    }

    /// The column that an assignment is to, and whether it is to the whole of it.
    fn assigned(&mut self, name: &ast::ObjectName, target: &Target) -> Lowered<(u16, bool)> {
        let Some(first) = name.0.first().and_then(ast::ObjectNamePart::as_ident) else {
            return foreign("this target of SET");
        };
        Ok((self.target_column(target, first)?, name.0.len() == 1))
    }

    /// An assigned value, which may be `excluded.column`.
    fn assigned_value(&mut self, value: &'t ast::Expr, target: &Target) -> Lowered<IrExpr> {
        let mut at = value;
        while let ast::Expr::Nested(inner) = at {
            at = inner;
        }
        if let ast::Expr::CompoundIdentifier(parts) = at
            && let [qualifier, column] = parts.as_slice()
            && parse::name(qualifier) == "excluded"
        {
            let last = self.scope_mut().entries.last();
            if last.is_some_and(|e| e.source.is_none() && e.name == "excluded") {
                return self.target_column(target, column).map(IrExpr::Excluded);
            }
        }
        self.expr(value)
    }

    /// A table without joins, as the target of UPDATE, DELETE or MERGE.
    fn target_factor(&mut self, factor: &'t TableFactor) -> Lowered<(Target, Entry)> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                self.target(name, alias.as_ref())
            }
            _ => foreign("this target"),
        }
    }

    fn target_table(&mut self, table: &'t TableWithJoins) -> Lowered<Target> {
        if !table.joins.is_empty() {
            return foreign("a join as the target");
        }
        let (target, entry) = self.target_factor(&table.relation)?;
        self.show(entry);
        Ok(target)
    }

    fn update(&mut self, update: &'t ast::Update, block: BlockId, span: Span) -> Lowered<()> {
        let foreign_clause = update.output.is_some()
            || update.or.is_some()
            || !update.order_by.is_empty()
            || update.limit.is_some();
        if foreign_clause {
            return foreign("this clause of UPDATE");
        }
        let target = self.target_table(&update.table)?;
        let from = match &update.from {
            None => FromTree::Source(target.source),
            Some(UpdateTableFromKind::AfterSet(from)) => self.with_target(target.source, from)?,
            Some(UpdateTableFromKind::BeforeSet(_)) => return foreign("FROM before SET"),
        };
        let assignments = self.assignments(&update.assignments, &target)?;
        let filter = self.filter(update.selection.as_ref())?;
        let output = self.output(update.returning.as_deref().unwrap_or_default())?;
        let (filter_span, filter_insert) = self.where_positions(span);
        let target = target.source;
        let made = self.block_mut(block)?;
        made.output = output;
        made.kind = BlockKind::Update(Update {
            target,
            assignments,
            from,
            filter,
            filter_span,
            filter_insert,
        });
        Ok(())
    }

    fn delete(&mut self, delete: &'t ast::Delete, block: BlockId, span: Span) -> Lowered<()> {
        let foreign_clause = !delete.tables.is_empty()
            || delete.output.is_some()
            || !delete.order_by.is_empty()
            || delete.limit.is_some();
        if foreign_clause {
            return foreign("this clause of DELETE");
        }
        let FromTable::WithFromKeyword(tables) = &delete.from else {
            return foreign("DELETE without FROM");
        };
        let [table] = tables.as_slice() else { return foreign("DELETE FROM several tables") };
        let target = self.target_table(table)?;
        let from = match &delete.using {
            None => FromTree::Source(target.source),
            Some(using) => self.with_target(target.source, using)?,
        };
        let filter = self.filter(delete.selection.as_ref())?;
        let output = self.output(delete.returning.as_deref().unwrap_or_default())?;
        let (filter_span, filter_insert) = self.where_positions(span);
        let target = target.source;
        let made = self.block_mut(block)?;
        made.output = output;
        made.kind = BlockKind::Delete(Delete { target, from, filter, filter_span, filter_insert });
        Ok(())
    }

    /// The target joined with the rest of FROM.
    fn with_target(&mut self, target: SourceId, from: &'t [TableWithJoins]) -> Lowered<FromTree> {
        let tree = self.at_place(SubqueryPlace::Filter, |this| this.range_table(from))?;
        Ok(FromTree::Join {
            kind: JoinKind::Inner,
            left: Box::new(FromTree::Source(target)),
            right: Box::new(tree),
            on: Pred::True,
        })
    }

    fn filter(&mut self, selection: Option<&'t ast::Expr>) -> Lowered<Pred> {
        let Some(condition) = selection else { return Ok(Pred::True) };
        self.at_place(SubqueryPlace::Filter, |this| this.pred(condition))
    }

    /// Where the statement's WHERE expression stands, and where a new WHERE would be put.
    fn where_positions(&self, statement: Span) -> (Option<Span>, u32) {
        let Text { sql: text, tokens, .. } = self.text;
        let mut depth = 0;
        let mut condition = None;
        let mut end = statement.start;
        for token in tokens.get(tokens::index_at(tokens, statement.start)..).unwrap_or_default() {
            depth += tokens::depth_step(*token, text);
            if token.end > statement.end || depth == 0 && token.is_word(text, "returning") {
                break;
            }
            if depth == 0 && condition.is_none() && token.is_word(text, "where") {
                condition = Some(token.end);
            }
            end = token.end;
        }
        let start = condition
            .and_then(|after| tokens.get(tokens::index_at(tokens, after)))
            .map(|t| t.start);
        (start.map(|start| Span { start, end }), end)
    }

    fn merge(&mut self, merge: &'t ast::Merge, block: BlockId) -> Lowered<()> {
        if merge.output.is_some() {
            return unsupported("MERGE … RETURNING");
        }
        let (target, entry) = self.target_factor(&merge.table)?;
        let (source_tree, columns) =
            self.at_place(SubqueryPlace::Other, |this| this.factor(&merge.source))?;
        self.scope_mut().visible.append(&columns);
        self.show(entry);
        let on = self.at_place(SubqueryPlace::OuterJoin, |this| this.pred(&merge.on))?;
        let mut actions = Vec::with_capacity(merge.clauses.len());
        for clause in &merge.clauses {
            actions.push(self.merge_clause(clause, &target)?);
        }
        let from = FromTree::Join {
            kind: JoinKind::Left,
            left: Box::new(source_tree),
            right: Box::new(FromTree::Source(target.source)),
            on,
        };
        self.block_mut(block)?.kind =
            BlockKind::Merge(Merge { target: target.source, from, actions });
        Ok(())
    }

    fn merge_clause(
        &mut self,
        clause: &'t ast::MergeClause,
        target: &Target,
    ) -> Lowered<MergeAction> {
        match clause.clause_kind {
            MergeClauseKind::Matched
            | MergeClauseKind::NotMatched
            | MergeClauseKind::NotMatchedByTarget => {}
            MergeClauseKind::NotMatchedBySource => {
                return unsupported("WHEN NOT MATCHED BY SOURCE");
            }
        }
        if let Some(condition) = &clause.predicate {
            self.walk(condition)?;
        }
        match &clause.action {
            ast::MergeAction::Insert(insert) => self.merge_insert(insert, target),
            ast::MergeAction::Update(update) => {
                if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                    return foreign("a condition after MERGE's UPDATE");
                }
                match &update.kind {
                    MergeUpdateKind::Set(assignments) => {
                        self.assignments(assignments, target).map(MergeAction::Update)
                    }
                    MergeUpdateKind::Wildcard => foreign("UPDATE *"),
                }
            }
            ast::MergeAction::Delete { .. } => Ok(MergeAction::Delete),
            ast::MergeAction::DoNothing { .. } => Ok(MergeAction::Nothing),
        }
    }

    fn merge_insert(
        &mut self,
        insert: &'t ast::MergeInsertExpr,
        target: &Target,
    ) -> Lowered<MergeAction> {
        if insert.insert_predicate.is_some() {
            return foreign("a condition after MERGE's INSERT");
        }
        let MergeInsertKind::Values(values) = &insert.kind else {
            return foreign("this form of MERGE's INSERT");
        };
        let [row] = values.rows.as_slice() else {
            return foreign("several rows in MERGE's INSERT");
        };
        let values = self.row(&row.content)?;
        let columns = if insert.columns.is_empty() {
            let Some(table) = target.table.as_ref().filter(|t| t.columns_known) else {
                return Err("its target's columns are not known, and it lists none".to_owned());
            };
            (0..values.len().min(table.columns.len()))
                .filter_map(|i| u16::try_from(i).ok())
                .collect()
        } else {
            let mut columns = Vec::with_capacity(insert.columns.len());
            for name in &insert.columns {
                let [part] = name.0.as_slice() else {
                    return unsupported("a qualified column in MERGE's INSERT");
                };
                let Some(ident) = part.as_ident() else { return foreign("this name of a column") };
                columns.push(self.target_column(target, ident)?);
            }
            columns
        };
        Ok(MergeAction::Insert { columns, values })
    }
}

fn only_postgresqls_insert(insert: &ast::Insert) -> Lowered<()> {
    let foreign_clause = insert.or.is_some()
        || insert.ignore
        || !insert.into
        || insert.overwrite
        || !insert.assignments.is_empty()
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || insert.has_table_keyword
        || insert.output.is_some()
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || !insert.multi_table_into_clauses.is_empty()
        || !insert.multi_table_when_clauses.is_empty()
        || insert.multi_table_else_clause.is_some();
    if foreign_clause { foreign("this clause of INSERT") } else { Ok(()) }
}
