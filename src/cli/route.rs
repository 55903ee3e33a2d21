//! `pgmeridian route`: where a statement would go, without a server.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::say::{remark, say};
use super::{FOUND, Format, WRONG, load_map};
use crate::catalog::Catalog;
use crate::datum::{Format as WireFormat, Param};
use crate::error::SqlError;
use crate::exec::query_within;
use crate::map::ShardMap;
use crate::plan::{Explained, Fresh, Inputs, Scope, Template, scope};
use crate::sql::analyze::{self, Names};
use crate::sql::class::{self, Class};
use crate::sql::hint;
use crate::sql::lexer::{self, Limits, Literal, Scan, Scanned};

#[derive(clap::Args)]
pub(super) struct Route {
    /// The map file.
    #[arg(long, value_name = "MAP")]
    map: PathBuf,
    /// The statement.
    #[arg(value_name = "SQL")]
    sql: String,
    /// A file of CREATE statements; without it, tables are taken to have the columns that are named.
    #[arg(long, value_name = "FILE.sql")]
    schema: Option<PathBuf>,
    /// The value of $1, $2 … in order.
    #[arg(long = "param", value_name = "V")]
    params: Vec<String>,
    /// A session setting: pgmeridian.shard, pgmeridian.key, `search_path`.
    #[arg(long = "set", value_name = "NAME=V")]
    settings: Vec<String>,
    /// How to print the route.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn run(words: &Route) -> ExitCode {
    let map = match load_map(&words.map) {
        Ok(map) => map,
        Err(code) => return code,
    };
    match explain(words, &map) {
        Ok(explained) => {
            match words.format {
                Format::Text => explained.lines.iter().for_each(|line| say!("{line}")),
                Format::Json => say!("{}", explained.json),
            }
            let refused = explained.json.get("kind").is_some_and(|kind| kind == "refused");
            ExitCode::from(if refused { FOUND } else { 0 })
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(WRONG)
        }
    }
}

/// An error with its detail and hint, on stderr.
pub(super) fn complain(error: &SqlError) {
    remark!("error: {}", error.message);
    if let Some(detail) = &error.detail {
        remark!("detail: {detail}");
    }
    if let Some(hint) = &error.hint {
        remark!("hint: {hint}");
    }
}

/// The schema that a file of CREATE statements makes; without one, tables are as they are named.
pub(super) fn catalog(schema: Option<&Path>) -> Result<Catalog, SqlError> {
    let Some(path) = schema else { return Ok(Catalog::unknown()) };
    let ddl = std::fs::read_to_string(path)
        .map_err(|error| usage(format!("{}: {error}", path.display())))?;
    Catalog::from_ddl(&ddl)
}

fn explain(words: &Route, map: &ShardMap) -> Result<Explained, SqlError> {
    let catalog = catalog(words.schema.as_deref())?;
    let fresh = Fresh::default();
    let mut scope = Scope { fresh: Some(fresh.of(0, None)), ..Scope::default() };
    let mut search_path = vec!["$user".to_owned(), "public".to_owned()];
    for setting in &words.settings {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| usage(format!("--set takes NAME=VALUE, not \"{setting}\"")))?;
        match name {
            "pgmeridian.shard" => scope.session_shard = Some(scope::resolve_shard(map, value)?),
            "search_path" => {
                search_path = value.split(',').map(|schema| schema.trim().to_owned()).collect();
            }
            name if name == "pgmeridian.key" || map.key_setting() == Some(name) => {
                let (key, value) = scope::resolve_key(map, value)?;
                scope.session_key = Some((key, Cow::Owned(value)));
            }
            name => return Err(usage(format!("--set does not know \"{name}\""))),
        }
    }
    let params: Vec<Param<'_>> = words
        .params
        .iter()
        .map(|value| Param { oid: 0, format: WireFormat::Text, value: Some(value.as_bytes()) })
        .collect();
    let mut scan = Scan::default();
    lexer::scan(words.sql.as_bytes(), true, &Limits::default(), &mut scan)?;
    let [scanned] = scan.statements.as_slice() else {
        return Err(usage("one statement at a time".to_owned()));
    };
    let question = Question { sql: &words.sql, scan: &scan, scanned, search_path: &search_path };
    question.explain(map, &catalog, scope, &params)
}

/// A statement of a text, and how its names are read.
pub(super) struct Question<'a> {
    pub(super) sql: &'a str,
    pub(super) scan: &'a Scan,
    pub(super) scanned: &'a Scanned,
    pub(super) search_path: &'a [String],
}

impl Question<'_> {
    /// The statement alone.
    pub(super) fn text(&self) -> &str {
        let span = self.scanned.span;
        self.sql.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Where it goes.
    pub(super) fn explain(
        &self,
        map: &ShardMap,
        catalog: &Catalog,
        mut scope: Scope<'_>,
        params: &[Param<'_>],
    ) -> Result<Explained, SqlError> {
        let text = self.text();
        if let Some(span) = self.scanned.hint {
            let hint = self.sql.get(span.start as usize..span.end as usize).unwrap_or_default();
            let hint = hint::parse(hint)?;
            if let Some(name) = &hint.shard {
                scope.hint_shard = Some(scope::resolve_shard(map, name)?);
            }
            if let Some(key) = &hint.key {
                let (key, value) = scope::resolve_key(map, key)?;
                scope.hint_key = Some((key, Cow::Owned(value)));
            }
        }
        let literals = self.scan.literals_of(self.scanned);
        let routed = |text, literals| self.routed(text, literals, map, catalog, &scope, params);
        let explained = routed(text, literals);
        if explained.is_unsupported()
            && let Some(within) = query_within(text, true)
        {
            let mut scan = Scan::default();
            lexer::scan(within.query.as_bytes(), true, &Limits::default(), &mut scan)?;
            if let [only] = scan.statements.as_slice() {
                let query = routed(&within.query, scan.literals_of(only));
                return Ok(query.about(&within).unwrap_or(explained));
            }
        }
        Ok(explained)
    }

    /// Where a text with these literals goes.
    fn routed(
        &self,
        text: &str,
        literals: &[Literal],
        map: &ShardMap,
        catalog: &Catalog,
        scope: &Scope<'_>,
        params: &[Param<'_>],
    ) -> Explained {
        let class = class::classify(text, true);
        if matches!(class, Class::Empty) || scope::is_own_setting(&class, map) {
            return Explained::local(map);
        }
        let names = Names { search_path: self.search_path, user: "" };
        let statement = analyze::statement(text, literals, &class, catalog, &names);
        let template = Template::compile(&statement, &class, map);
        let inputs = Inputs { text, literals, params, utf8: true, standard_strings: true };
        template.explain(map, &inputs, scope)
    }
}

pub(super) fn usage(message: String) -> SqlError {
    SqlError::new(crate::error::SqlState::INVALID_PARAMETER_VALUE, message)
}
