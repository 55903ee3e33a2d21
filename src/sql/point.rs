//! Reads that name their rows by the primary key and nothing else: [`Point`].
//!
//! For those PostgreSQL has one plan, whatever the values are: the key's index. So they can be prepared once on a
//! connection and carried out from then on without being parsed and planned each time, and nothing else changes:
//! a plan for any values (a *generic* one, manual, "PREPARE") is as good as one for these, and since the values
//! stand in comparisons alone, no part of the statement is computed at another moment (a constant expression fails
//! when it is planned, a parameter's only when there is a row). Its own text is ASCII: other bytes are other letters
//! to a client with another encoding, and it is kept for all of them.

use std::sync::Arc;

use super::ir::{Analysis, BlockKind, CallKind, ColumnRef, FromTree, Pred, Scalar, SourceKind};
use super::lexer::LiteralKind;
use crate::catalog::{RelationKind, Table};
use crate::datum::{Oid, oid};

/// A read of one row at most, by the primary key.
#[derive(Debug)]
pub struct Point {
    /// How it is said with parameters in place of its literals; `None` where its literals can't be.
    pub by_parameters: Option<ByParameters>,
}

/// A statement without parameters, with one in place of each of its literals.
#[derive(Debug)]
pub struct ByParameters {
    /// Its text.
    pub sql: Arc<[u8]>,
    /// The parameters' types.
    pub oids: Box<[Oid]>,
}

impl Point {
    /// `None` for what is none; `text` is what was analysed.
    pub fn of(analysis: &Analysis, text: &str) -> Option<Self> {
        let ([block], [source]) = (analysis.blocks.as_slice(), analysis.sources.as_slice()) else {
            return None;
        };
        let BlockKind::Select(select) = &block.kind else { return None };
        let SourceKind::Table(table) = &source.kind else { return None };
        let harmless = |kind| matches!(kind, CallKind::Pure | CallKind::Time | CallKind::Stable);
        let alone = matches!(select.from, FromTree::Source(_))
            && table.kind == RelationKind::Table
            && table.heirs.is_empty()
            && analysis.views.is_empty()
            && !analysis.locks_rows
            && analysis.calls.iter().all(|call| harmless(call.kind));
        if !alone {
            return None;
        }
        let equal = equalities(&select.filter)?;
        let names = |column: &u16| equal.iter().any(|(own, _)| own.column == *column);
        if table.primary_key.is_empty() || !table.primary_key.iter().all(names) {
            return None;
        }
        let literals = analysis.literals.len();
        if literals == 0 && !text.is_ascii() {
            return None;
        }
        let by_parameters = match (analysis.params, literals) {
            (0, 1..) => by_parameters(analysis, table, &equal, text),
            (1.., 0) if are_all_params(&equal, analysis.params) => None,
            _ => return None,
        };
        if literals > 0 && by_parameters.is_none() {
            return None;
        }
        Some(Self { by_parameters })
    }
}

/// The column and the value of each conjunct, if each is such an equality.
fn equalities<'a>(filter: &'a Pred) -> Option<Vec<(ColumnRef, &'a Scalar)>> {
    let conjuncts = match filter {
        Pred::And(conjuncts) => conjuncts.as_slice(),
        one => std::slice::from_ref(one),
    };
    let equality = |conjunct: &'a Pred| match conjunct {
        Pred::Eq(column, value) => Some((*column, value)),
        _ => None,
    };
    conjuncts.iter().map(equality).collect()
}

/// Each parameter is one of the values. (That it stands nowhere else is for who knows the text.)
fn are_all_params(equal: &[(ColumnRef, &Scalar)], params: u16) -> bool {
    (0..params).all(|n| equal.iter().any(|(_, value)| **value == Scalar::Param(n)))
}

fn by_parameters(
    analysis: &Analysis,
    table: &Table,
    equal: &[(ColumnRef, &Scalar)],
    text: &str,
) -> Option<ByParameters> {
    // A function may see the text (`current_query`).
    let pure = analysis.calls.iter().all(|call| call.kind == CallKind::Pure);
    if !pure || equal.len() != analysis.literals.len() {
        return None;
    }
    let (mut sql, mut oids, mut end) = (Vec::new(), Vec::new(), 0);
    for (slot, literal) in (0_u16..).zip(&analysis.literals) {
        let (column, _) = equal.iter().find(|(_, value)| **value == Scalar::Literal(slot))?;
        oids.push(parameter_type(
            table.columns.get(column.column as usize)?.type_oid,
            literal.kind,
        )?);
        sql.extend_from_slice(text.get(end..literal.span.start as usize)?.as_bytes());
        // What stands beside a literal need not be apart from it.
        sql.extend_from_slice(format!(" ${} ", oids.len()).as_bytes());
        end = literal.span.end as usize;
    }
    sql.extend_from_slice(text.get(end..)?.as_bytes());
    if !sql.is_ascii() {
        return None;
    }
    Some(ByParameters { sql: sql.into(), oids: oids.into() })
}

/// The type of a parameter that compares with a column as a literal of that kind does.
fn parameter_type(column: Oid, kind: LiteralKind) -> Option<Oid> {
    match (column, kind) {
        (oid::INT2 | oid::INT4 | oid::INT8, LiteralKind::Integer) => Some(oid::INT8),
        (oid::TEXT | oid::VARCHAR, LiteralKind::String) => Some(oid::TEXT),
        (oid::UUID, LiteralKind::String) => Some(oid::UUID),
        _ => None,
    }
}

/// What a literal of the kinds that a parameter can stand for says as text; `None` where that isn't what is
/// written.
pub fn value(kind: LiteralKind, written: &[u8]) -> Option<&[u8]> {
    match kind {
        LiteralKind::Integer => Some(written),
        LiteralKind::String => {
            let inner = written.strip_prefix(b"'")?.strip_suffix(b"'")?;
            memchr::memchr2(b'\'', b'\\', inner).is_none().then_some(inner)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::sql::analyze::{self, Names};
    use crate::sql::ir::Statement;
    use crate::sql::lexer::{self, Limits, Scan};

    const SCHEMA: &str = "
        CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id bigint NOT NULL, slug text, price numeric);
        CREATE TABLE pairs (a uuid, b varchar(9), note text, PRIMARY KEY (a, b));
        CREATE TABLE heap (id bigint);
        CREATE VIEW seen AS SELECT id FROM notes;";

    /// By what text and types a point read is kept.
    fn point(text: &str) -> Option<String> {
        let catalog = Catalog::from_ddl(SCHEMA).unwrap();
        let mut scan = Scan::default();
        lexer::scan(text.as_bytes(), true, &Limits::default(), &mut scan).unwrap();
        let literals = scan.literals_of(&scan.statements[0]);
        let names = Names { search_path: &["public".to_owned()], user: "app" };
        match analyze::analyze(text, literals, &catalog, &names) {
            Statement::Query(analysis) => Point::of(&analysis, text).map(|point| {
                point.by_parameters.map_or("its own".to_owned(), |by| {
                    format!("{} {:?}", String::from_utf8_lossy(&by.sql), by.oids)
                })
            }),
            _ => None,
        }
    }

    #[test]
    fn a_point_read_compares_its_whole_primary_key() {
        let by = |text: &str| Some(text.to_owned());
        assert_eq!(
            point("SELECT slug FROM notes WHERE id=7 AND tenant_id = 9"),
            by("SELECT slug FROM notes WHERE id= $1  AND tenant_id =  $2  [20, 20]")
        );
        assert_eq!(
            point("SELECT count(*) FROM pairs p WHERE 'é' = p.b AND p.a = '00'"),
            by("SELECT count(*) FROM pairs p WHERE  $1  = p.b AND p.a =  $2  [25, 2950]")
        );
        // These numbers are no values, and part of the shape.
        assert_eq!(
            point("SELECT * FROM notes WHERE id = 7 ORDER BY 1 LIMIT 1"),
            by("SELECT * FROM notes WHERE id =  $1  ORDER BY 1 LIMIT 1 [20]")
        );
        assert_eq!(point("SELECT *, now() FROM notes WHERE id = $1"), by("its own"));
        assert_eq!(point("SELECT * FROM pairs WHERE a = $2 AND b = $1"), by("its own"));
    }

    #[test]
    fn nothing_else_is_one() {
        for text in [
            "SELECT * FROM notes WHERE tenant_id = 7",
            "SELECT * FROM pairs WHERE a = $1",
            "SELECT * FROM heap WHERE id = 7",
            "SELECT * FROM seen WHERE id = 7",
            "SELECT * FROM notes WHERE id IN (7, 8)",
            "SELECT * FROM notes WHERE id = 7 OR id = 8",
            "SELECT * FROM notes WHERE id = 7 AND price > 2",
            "SELECT * FROM notes WHERE id = 7 AND slug IS NULL",
            // What is computed from a value may fail when it is planned.
            "SELECT 1 / 0 FROM notes WHERE id = 7",
            "SELECT id / $2 FROM notes WHERE id = $1",
            "SELECT * FROM notes WHERE id = $1::int",
            "SELECT * FROM notes WHERE id = -7",
            "SELECT * FROM notes WHERE id = '7'",
            "SELECT * FROM notes WHERE id = 7 AND price = 2",
            "SELECT * FROM notes WHERE id = 7 AND slug = E'x'",
            "SELECT current_query() FROM notes WHERE id = 7",
            "SELECT id AS número FROM notes WHERE id = 7",
            "SELECT id AS número FROM notes WHERE id = $1",
            "SELECT f(id) FROM notes WHERE id = $1",
            "SELECT * FROM notes WHERE id = 7 FOR UPDATE",
            "SELECT * FROM notes n, heap h WHERE n.id = 7 AND h.id = 7",
            "SELECT (SELECT 1) FROM notes WHERE id = $1",
            "UPDATE notes SET slug = $2 WHERE id = $1",
            "DELETE FROM notes WHERE id = 7",
            "INSERT INTO notes VALUES (7, 7)",
        ] {
            assert_eq!(point(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_is_what_is_written() {
        assert_eq!(value(LiteralKind::Integer, b"007"), Some(&b"007"[..]));
        assert_eq!(value(LiteralKind::String, b"'it'"), Some(&b"it"[..]));
        for text in [&b"'it''s'"[..], br"'a\b'", b"'"] {
            assert_eq!(value(LiteralKind::String, text), None);
        }
        assert_eq!(value(LiteralKind::Other, b"0x1f"), None);
    }
}
