//! Expressions: what planning keeps of them, and the walk that records every call and sub-select.

use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, Subscript, Value, WindowFrameBound, WindowType,
};

use super::super::functions::{self, Called};
use super::super::ir::{
    BlockId, Call, CallKind, Expr as IrExpr, SettingCall, Span, Subquery, SubqueryPlace,
};
use super::super::parse;
use super::scope::{Outside, Resolved};
use super::{Lowered, Lowering, foreign, unsupported};
use crate::catalog::Volatility;

/// Words that are calls without parentheses.
const VALUE_WORDS: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "user",
];

impl<'t> Lowering<'t, '_> {
    /// Lowers an expression: a constant, a column, or something else whose parts have been walked.
    pub(super) fn expr(&mut self, expr: &'t Expr) -> Lowered<IrExpr> {
        if let Some(value) = self.scalar(expr) {
            return Ok(IrExpr::Scalar(value));
        }
        match expr {
            Expr::Nested(inner) => self.expr(inner),
            Expr::Identifier(ident) if ident.quote_style.is_none() && is_default(ident) => {
                Ok(IrExpr::Default)
            }
            Expr::Identifier(ident) => {
                if self.value_word(ident) {
                    return Ok(IrExpr::Other);
                }
                Ok(kept(self.column(std::slice::from_ref(ident))?))
            }
            Expr::CompoundIdentifier(parts) => Ok(kept(self.column(parts)?)),
            other => {
                self.walk(other)?;
                Ok(IrExpr::Other)
            }
        }
    }

    /// `current_user` and the like; records the call.
    fn value_word(&mut self, ident: &ast::Ident) -> bool {
        let name = parse::name(ident);
        if ident.quote_style.is_some() || !VALUE_WORDS.contains(&name.as_str()) {
            return false;
        }
        self.call(&name, None, self.span(ident.span));
        true
    }

    /// Records a call by name and says what is known of it.
    pub(super) fn call(&mut self, name: &str, schema: Option<&str>, span: Span) -> Called {
        let called = functions::classify(name, schema, self.catalog, &self.names);
        let name = schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}"));
        self.arena.calls.push(Call { name, kind: called.kind, span, block: self.block });
        called
    }

    /// Records the function behind an operator that is not built in.
    pub(super) fn operator(&mut self, operator: &BinaryOperator) {
        let name = match operator {
            BinaryOperator::Custom(name) => name.clone(),
            BinaryOperator::PGCustomBinaryOperator(parts) => match parts.as_slice() {
                [schema, name] if schema == "pg_catalog" => name.clone(),
                parts => parts.join("."),
            },
            // The parser's names for operators of PostgreSQL (or of none, which PostgreSQL refuses).
            _ => return,
        };
        if !functions::is_builtin_operator(&name) {
            let kind = CallKind::User(Volatility::Volatile);
            self.arena.calls.push(Call {
                name,
                kind,
                span: self.text.view.unwrap_or_default(),
                block: self.block,
            });
        }
    }

    /// Lowers a sub-select that stands in an expression.
    pub(super) fn subquery(&mut self, query: &'t ast::Query) -> Lowered<BlockId> {
        let place = self.place;
        let outside =
            Outside { block: Some(self.block), scope: self.scope, hide: false, ctes: None };
        let refs = self.aggregate_refs;
        let block = self.query(query, outside)?;
        // What a sub-select inside an aggregate's arguments refers to is not looked at.
        self.aggregate_refs = (refs.0, refs.1 + 1);
        let parent = self.block;
        self.block_mut(parent)?.subqueries.push(Subquery { block, place });
        Ok(block)
    }

    /// Runs `f` with sub-selects standing at `place`.
    pub(super) fn at_place<T>(
        &mut self,
        place: SubqueryPlace,
        f: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let saved = std::mem::replace(&mut self.place, place);
        let result = f(self);
        self.place = saved;
        result
    }

    pub(super) fn walk_all<'e>(&mut self, exprs: impl IntoIterator<Item = &'t Expr>) -> Lowered<()>
    where
        't: 'e,
    {
        exprs.into_iter().try_for_each(|e| self.walk(e))
    }

    fn walk_boxed(&mut self, expr: Option<&'t Expr>) -> Lowered<()> {
        expr.map_or(Ok(()), |e| self.walk(e))
    }

    /// Walks an expression of which nothing is kept: resolves names, records calls and sub-selects.
    pub(super) fn walk(&mut self, expr: &'t Expr) -> Lowered<()> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.walk_inner(expr))
    }

    fn walk_inner(&mut self, expr: &'t Expr) -> Lowered<()> {
        match expr {
            Expr::Identifier(ident) => {
                if !self.value_word(ident) && !is_default(ident) {
                    self.column(std::slice::from_ref(ident))?;
                }
                Ok(())
            }
            Expr::CompoundIdentifier(parts) => self.column(parts).map(drop),
            Expr::Value(value) => known_value(&value.value),
            Expr::BinaryOp { .. } => self.walk_chain(expr),
            Expr::Function(function) => self.function(function),
            Expr::Cast { kind, expr, data_type, format } => {
                if !matches!(kind, ast::CastKind::Cast | ast::CastKind::DoubleColon)
                    || format.is_some()
                {
                    return foreign("this form of cast");
                }
                self.walk(expr)?;
                self.cast(data_type);
                Ok(())
            }
            Expr::TypedString(typed) => {
                self.cast(&typed.data_type);
                Ok(())
            }
            Expr::Nested(e)
            | Expr::IsFalse(e)
            | Expr::IsNotFalse(e)
            | Expr::IsTrue(e)
            | Expr::IsNotTrue(e)
            | Expr::IsNull(e)
            | Expr::IsNotNull(e)
            | Expr::IsUnknown(e)
            | Expr::IsNotUnknown(e)
            | Expr::IsJson { expr: e, .. }
            | Expr::IsNormalized { expr: e, .. }
            | Expr::UnaryOp { op: _, expr: e }
            | Expr::Collate { expr: e, collation: _ }
            | Expr::Named { expr: e, name: _ } => self.walk(e),
            Expr::Extract { field: _, syntax: _, expr } => {
                self.walk(expr)?;
                self.call("extract", None, Span::default());
                Ok(())
            }
            Expr::IsDistinctFrom(a, b)
            | Expr::IsNotDistinctFrom(a, b)
            | Expr::AtTimeZone { timestamp: a, time_zone: b }
            | Expr::Position { expr: a, r#in: b }
            | Expr::AllOp { left: a, compare_op: _, right: b }
            | Expr::AnyOp { left: a, compare_op: _, right: b, is_some: _ } => {
                self.walk(a)?;
                self.walk(b)
            }
            Expr::InList { expr, list, negated: _ } => {
                self.walk(expr)?;
                self.walk_all(list)
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.walk(expr)?;
                self.subquery(subquery).map(drop)
            }
            Expr::Exists { subquery, negated: _ } => self.subquery(subquery).map(drop),
            Expr::Subquery(query) => self.subquery(query).map(drop),
            Expr::Between { expr, negated: _, low, high } => {
                self.walk_all([expr.as_ref(), low, high])
            }
            Expr::Like { negated: _, any: false, expr, pattern, escape_char }
            | Expr::ILike { negated: _, any: false, expr, pattern, escape_char }
            | Expr::SimilarTo { negated: _, expr, pattern, escape_char } => {
                self.walk_all([expr.as_ref(), pattern])?;
                self.walk_boxed(escape_char.as_deref())
            }
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                self.walk(expr)?;
                self.walk_boxed(substring_from.as_deref())?;
                self.walk_boxed(substring_for.as_deref())?;
                self.call("substring", None, Span::default());
                Ok(())
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.walk_boxed(trim_what.as_deref())?;
                self.walk(expr)?;
                self.walk_all(trim_characters.iter().flatten())
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.walk_all([expr.as_ref(), overlay_what, overlay_from])?;
                self.walk_boxed(overlay_for.as_deref())
            }
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.walk_boxed(operand.as_deref())?;
                for when in conditions {
                    self.walk(&when.condition)?;
                    self.walk(&when.result)?;
                }
                self.walk_boxed(else_result.as_deref())
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.walk_all(sets.iter().flatten())
            }
            Expr::Tuple(items) => self.walk_all(items),
            Expr::Array(array) => self.walk_all(&array.elem),
            Expr::Interval(interval) => self.walk(&interval.value),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.field_access(root, access_chain)
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                self.arena.uses_unclear = true;
                Ok(())
            }
            Expr::Like { .. } | Expr::ILike { .. } => unsupported("LIKE ANY"),
            Expr::Ceil { .. } | Expr::Floor { .. } => unsupported("CEIL or FLOOR with a field"),
            Expr::InUnnest { .. } => unsupported("IN UNNEST"),
            Expr::JsonAccess { .. } => foreign("this JSON path"),
            Expr::RLike { .. } => foreign("RLIKE"),
            Expr::Convert { .. } => foreign("this form of CONVERT"),
            Expr::Prefixed { .. } => foreign("a string introducer"),
            Expr::Struct { .. } => foreign("STRUCT"),
            Expr::Dictionary(_) => foreign("a dictionary"),
            Expr::Map(_) => foreign("MAP"),
            Expr::MatchAgainst { .. } => foreign("MATCH AGAINST"),
            Expr::OuterJoin(_) => foreign("(+)"),
            Expr::Prior(_) => foreign("PRIOR"),
            Expr::Lambda(_) => foreign("a lambda function"),
            Expr::MemberOf(_) => foreign("MEMBER OF"),
        }
    }

    /// A chain of binary operators leans to the left and may be long.
    fn walk_chain(&mut self, expr: &'t Expr) -> Lowered<()> {
        let mut at = expr;
        while let Expr::BinaryOp { left, op, right } = at {
            self.operator(op);
            self.walk(right)?;
            at = left;
        }
        self.walk(at)
    }

    fn field_access(&mut self, root: &'t Expr, chain: &'t [AccessExpr]) -> Lowered<()> {
        self.walk(root)?;
        for access in chain {
            match access {
                AccessExpr::Dot(Expr::Identifier(field)) => {
                    let field = parse::name(field);
                    self.field_call(&field);
                }
                AccessExpr::Dot(other) => self.walk(other)?,
                AccessExpr::Subscript(Subscript::Index { index }) => self.walk(index)?,
                AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
                    self.walk_all([lower_bound, upper_bound, stride].into_iter().flatten())?;
                }
            }
        }
        Ok(())
    }

    /// A cast to a `reg…` type looks the name up in the catalog.
    fn cast(&mut self, data_type: &DataType) {
        let name = match data_type {
            DataType::Regclass => "regclass".to_owned(),
            DataType::Custom(name, _) => {
                match name.0.last().and_then(ast::ObjectNamePart::as_ident) {
                    Some(ident) => parse::name(ident),
                    None => return,
                }
            }
            _ => return,
        };
        if name.starts_with("reg") {
            // An OID, written as a name: each server has its own.
            let kind = CallKind::Volatile;
            self.arena.calls.push(Call {
                name,
                kind,
                span: self.text.view.unwrap_or_default(),
                block: self.block,
            });
        }
    }

    fn function(&mut self, function: &'t ast::Function) -> Lowered<()> {
        if function.uses_odbc_syntax {
            return foreign("{fn …}");
        }
        if !matches!(function.parameters, FunctionArguments::None) {
            return foreign("a function with two argument lists");
        }
        let mut called = self.function_name(&function.name)?;
        if matches!(called.kind, CallKind::User(_))
            && self.random_uuid_call(function).is_some()
            && let Some(call) = self.arena.calls.last_mut()
        {
            (called.kind, call.kind) = (CallKind::Volatile, CallKind::Volatile);
        }
        let aggregates = called.aggregate && function.over.is_none();
        if called.kind == CallKind::Setting {
            self.setting(&function.args);
        }
        let outer_refs = std::mem::take(&mut self.aggregate_refs);
        self.arguments(&function.args)?;
        for item in &function.within_group {
            self.order_item(item)?;
        }
        self.walk_boxed(function.filter.as_deref())?;
        if aggregates {
            if self.aggregate_refs.0 == 0 && self.aggregate_refs.1 > 0 {
                self.mark_outer_aggregates();
            }
            self.scope_mut().flags.aggregates = true;
        }
        self.aggregate_refs =
            (outer_refs.0 + self.aggregate_refs.0, outer_refs.1 + self.aggregate_refs.1);
        let flags = &mut self.scope_mut().flags;
        flags.returns_set |= called.returns_set;
        flags.windows |= function.over.is_some();
        match &function.over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec),
            Some(WindowType::NamedWindow(_)) | None => Ok(()),
        }
    }

    /// Records what a `set_config` sets. (`setseed` has no name that could matter.)
    fn setting(&mut self, arguments: &FunctionArguments) {
        let constant = |n: usize| match arguments {
            FunctionArguments::List(list) => match list.args.get(n) {
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident))))
                    if parse::name(ident) == "name" =>
                {
                    self.scopes.get(self.scope).and_then(|scope| scope.setting.clone())
                }
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) => self.scalar(expr),
                _ => None,
            },
            FunctionArguments::None | FunctionArguments::Subquery(_) => None,
        };
        if matches!(arguments, FunctionArguments::List(list) if list.args.len() > 1) {
            let (name, value, local) = (constant(0), constant(1), boolean(arguments, 2));
            self.arena.settings.push(SettingCall {
                name,
                value,
                local,
                certain: false,
                column: None,
            });
        }
    }

    /// Calls of `set_config` that stand by themselves in a SELECT that makes one row.
    pub(super) fn certain_settings(&mut self, select: &ast::Select) {
        let is_call = |item: &&ast::SelectItem| match item {
            ast::SelectItem::UnnamedExpr(Expr::Function(function))
            | ast::SelectItem::ExprWithAlias { expr: Expr::Function(function), .. } => {
                matches!(function.name.0.last(), Some(ast::ObjectNamePart::Identifier(name))
                    if parse::name(name) == "set_config")
            }
            _ => false,
        };
        // More of them stand within another expression, which may not be evaluated.
        if select.projection.iter().filter(is_call).count() == self.arena.settings.len() {
            self.arena.settings.iter_mut().for_each(|call| call.certain = true);
            if select.projection.len() == self.arena.settings.len() {
                for (call, item) in self.arena.settings.iter_mut().zip(&select.projection) {
                    call.column = Some(match item {
                        ast::SelectItem::ExprWithAlias { alias, .. } => parse::name(alias),
                        _ => "set_config".to_owned(),
                    });
                }
            }
        }
    }

    /// Records the call by this name.
    pub(super) fn function_name(&mut self, name: &ast::ObjectName) -> Lowered<Called> {
        let mut parts = Vec::with_capacity(name.0.len());
        for part in &name.0 {
            match part {
                ast::ObjectNamePart::Identifier(ident) => parts.push(ident),
                ast::ObjectNamePart::Function(_) => return foreign("a function as a name"),
            }
        }
        match parts.as_slice() {
            [name] => Ok(self.call(&parse::name(name), None, self.span(name.span))),
            [.., schema, name] => {
                let span =
                    Span { start: self.span(schema.span).start, end: self.span(name.span).end };
                Ok(self.call(&parse::name(name), Some(&parse::name(schema)), span))
            }
            [] => unsupported("a function without a name"),
        }
    }

    pub(super) fn arguments(&mut self, arguments: &'t FunctionArguments) -> Lowered<()> {
        match arguments {
            FunctionArguments::None => Ok(()),
            FunctionArguments::Subquery(query) => self.subquery(query).map(drop),
            FunctionArguments::List(list) => {
                for argument in &list.args {
                    self.argument(argument)?;
                }
                list.clauses.iter().try_for_each(|clause| self.argument_clause(clause))
            }
        }
    }

    pub(super) fn argument(&mut self, argument: &'t FunctionArg) -> Lowered<()> {
        let value = match argument {
            FunctionArg::Named { name: _, arg, operator: _ } => arg,
            FunctionArg::ExprNamed { name, arg, operator: _ } => {
                self.walk(name)?;
                arg
            }
            FunctionArg::Unnamed(arg) => arg,
        };
        match value {
            FunctionArgExpr::Expr(expr) => self.walk(expr),
            FunctionArgExpr::QualifiedWildcard(_) => {
                self.aggregate_refs.0 += 1; // t.*
                self.arena.uses_unclear = true;
                Ok(())
            }
            FunctionArgExpr::Wildcard => Ok(()),
            FunctionArgExpr::WildcardWithOptions(_) => foreign("* with options"),
        }
    }

    fn argument_clause(&mut self, clause: &'t FunctionArgumentClause) -> Lowered<()> {
        match clause {
            FunctionArgumentClause::OrderBy(items) => {
                items.iter().try_for_each(|item| self.order_item(item))
            }
            FunctionArgumentClause::JsonNullClause(_)
            | FunctionArgumentClause::JsonReturningClause(_) => Ok(()),
            FunctionArgumentClause::IgnoreOrRespectNulls(_)
            | FunctionArgumentClause::Where(_)
            | FunctionArgumentClause::Limit(_)
            | FunctionArgumentClause::OnOverflow(_)
            | FunctionArgumentClause::Having(_)
            | FunctionArgumentClause::Separator(_) => {
                foreign("this clause in a function's arguments")
            }
        }
    }

    pub(super) fn order_item(&mut self, item: &'t ast::OrderByExpr) -> Lowered<()> {
        if item.with_fill.is_some() {
            return foreign("WITH FILL");
        }
        self.walk(&item.expr)
    }

    pub(super) fn window(&mut self, spec: &'t ast::WindowSpec) -> Lowered<()> {
        self.walk_all(&spec.partition_by)?;
        for item in &spec.order_by {
            self.order_item(item)?;
        }
        let Some(frame) = &spec.window_frame else { return Ok(()) };
        for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
            match bound {
                WindowFrameBound::CurrentRow => {}
                WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
                    self.walk_boxed(offset.as_deref())?;
                }
            }
        }
        Ok(())
    }
}

fn kept(found: Resolved) -> IrExpr {
    found.column().map_or(IrExpr::Other, IrExpr::Column)
}

/// The key word DEFAULT.
pub(super) fn is_default(ident: &ast::Ident) -> bool {
    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default")
}

/// The parser makes only these of our tokens.
fn known_value(value: &Value) -> Lowered<()> {
    match value {
        Value::Number(..)
        | Value::SingleQuotedString(_)
        | Value::Boolean(_)
        | Value::Null
        | Value::Placeholder(_) => Ok(()),
        _ => unsupported("this literal"),
    }
}

/// An argument that is TRUE or FALSE.
fn boolean(arguments: &FunctionArguments, n: usize) -> Option<bool> {
    let FunctionArguments::List(list) = arguments else { return None };
    match list.args.get(n)? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match value.value {
            ast::Value::Boolean(value) => Some(value),
            _ => None,
        },
        _ => None,
    }
}
