//! Views: a view that a statement names is read as its definition says, as a block of that statement.

use std::sync::Arc;

use sqlparser::ast::{self, TableAlias};

use super::super::ir::{BlockId, BlockKind, Expr, Output, SourceKind, Span, ViewUse};
use super::super::{parse, tokens};
use super::scope::Outside;
use super::{Lowered, Lowering, Statement, Text, VIEW_DEPTH_MAX, analyze_tokens};
use crate::catalog::{Names, RelationKind, Table};

/// Names of a view's columns, and which of its table's they are.
pub(super) type WrittenColumns = Vec<(String, Option<u16>)>;

impl Lowering<'_, '_> {
    /// Lowers a view's definition as a block of this statement.
    pub(super) fn view_block(
        &mut self,
        view: &Table,
        span: Span,
        parent: BlockId,
    ) -> Lowered<BlockId> {
        let unreadable =
            |reason: String| format!("the view \"{}\" could not be read: {reason}", view.name);
        let Some(definition) = &view.view_definition else {
            return Err(unreadable("its definition is not known".to_owned()));
        };
        if self.arena.view_depth >= VIEW_DEPTH_MAX {
            return Err(unreadable("views are nested too deep".to_owned()));
        }
        let text = query_of(definition);
        let tokens = tokens::tokenize(text, None).map_err(|f| unreadable(f.reason.to_owned()))?;
        let path = search_path_of(view);
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

    /// The table that PostgreSQL writes to when the view is written (`view_query_is_auto_updatable`), and which of
    /// its columns the view's are, with their names. `None` if there is none, or the view says more than what can be
    /// told here.
    pub(super) fn updatable(&self, view: &Table) -> Option<(Arc<Table>, WrittenColumns)> {
        if view.has_triggers || view.has_rules {
            return None;
        }
        let text = query_of(view.view_definition.as_deref()?);
        let tokens = tokens::tokenize(text, None).ok()?;
        let path = search_path_of(view);
        let names = Names { search_path: &path, user: self.names.user };
        let Statement::Query(body) = analyze_tokens(text, &tokens, self.catalog, &names) else {
            return None;
        };
        let ([block], [source]) = (body.blocks.as_slice(), body.sources.as_slice()) else {
            return None;
        };
        let (BlockKind::Select(select), SourceKind::Table(base)) = (&block.kind, &source.kind)
        else {
            return None;
        };
        let whole = !select.is_plain()
            || select.limit
            || source.alone
            || body.samples
            || !body.calls.is_empty();
        let told = !view.columns_known || block.output.len() == view.columns.len();
        if whole || base.kind != RelationKind::Table || !told {
            return None;
        }
        let column = |(n, output): (usize, &Output)| {
            let name = view.columns.get(n).map_or(&output.name, |column| &column.name);
            let of_table = match output.expr {
                Expr::Column(column) => Some(column.column),
                _ => None,
            };
            (name.clone(), of_table)
        };
        Some((Arc::clone(base), block.output.iter().enumerate().map(column).collect()))
    }

    /// Keeps a view that the statement's own text refers to, with its definition's analysis.
    pub(super) fn note_view(
        &mut self,
        view: &Arc<Table>,
        span: Span,
        alias: Option<&TableAlias>,
    ) -> Lowered<()> {
        if self.text.view.is_some() {
            return Ok(());
        }
        let definition = view.view_definition.as_deref().unwrap_or_default();
        let text = query_of(definition).to_owned();
        let tokens = tokens::tokenize(&text, None).map_err(|fault| fault.reason.to_owned())?;
        let path = search_path_of(view);
        let names = Names { search_path: &path, user: self.names.user };
        let Statement::Query(body) = analyze_tokens(&text, &tokens, self.catalog, &names) else {
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
}

/// The query that a view's definition is (`pg_get_viewdef` ends it with a semicolon).
fn query_of(definition: &str) -> &str {
    definition.trim_end().trim_end_matches(';')
}

/// The search path that the names in a view's definition are read by.
fn search_path_of(view: &Table) -> [String; 2] {
    [view.schema.clone(), "public".to_owned()]
}
