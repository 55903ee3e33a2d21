//! FROM: its items one by one (tables, derived tables, functions, references to CTEs), each a source with columns.

use sqlparser::ast::{self, TableAlias, TableFactor, TableWithJoins, XmlTableColumnOption};

use super::super::ir::{
    BlockId, Expr, FromTree, JoinKind, Output, Pred, SourceId, SourceKind, Span, SubqueryPlace,
};
use super::super::parse;
use super::super::tokens::index_at;
use super::joins::{has_outer_join, join};
use super::opaque;
use super::relations::{Meaning, Named, columns_of, relation_name};
use super::scope::{Columns, Outside, Visible};
use super::{Lowered, Lowering, Text, foreign, unsupported};
use crate::catalog::RelationKind;

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
                    None => {
                        let found = self.relation(name, alias.as_ref())?;
                        if let Some(sample) = sample {
                            self.sample(sample, found.0)?;
                        }
                        found
                    }
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

    /// TABLESAMPLE behind a table: what it picks of a table is a sample of that alone.
    fn sample(&mut self, sample: &'t ast::TableSampleKind, source: SourceId) -> Lowered<()> {
        let ast::TableSampleKind::AfterTableAlias(sample) = sample else {
            return foreign("a sample before an alias");
        };
        if sample.bucket.is_some() || sample.offset.is_some() {
            return foreign("this form of TABLESAMPLE");
        }
        if let Some(quantity) = &sample.quantity {
            self.walk(&quantity.value)?;
        }
        self.arena.samples = true;
        if let Some(source) = self.arena.sources.get_mut(source as usize) {
            source.only = true;
        }
        Ok(())
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
        if let Some(cte) = cte {
            let mut added = self.added_columns(cte);
            self.block_mut(made)?.output.append(&mut added);
        }
        self.derived_source(made, &named)
    }

    /// The columns that SEARCH and CYCLE add to a CTE, for whoever refers to it from outside.
    fn added_columns(&self, cte: &ast::Cte) -> Vec<Output> {
        let close = parse::span(cte.closing_paren_token.0.span).unwrap_or_default();
        let Text { sql, tokens, .. } = self.text;
        let behind = index_at(tokens, close.end);
        let found = parse::Recursion::at(sql, tokens, behind);
        let names = found.map(|found| found.columns).unwrap_or_default();
        names.into_iter().map(|name| Output { name, expr: Expr::Other }).collect()
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
}
