//! A route for people and programs: `EXPLAIN (ROUTE)`, `pgmeridian route`, trace.
//!
//! Main type: [`Explained`]. The JSON object is the contract's (§4), for refusals too.

use serde_json::{Value, json};

use super::constant::Constants;
use super::query::regions;
use super::restrict::VALUES_TOLD_MAX;
use super::scope::{Resolved, key_name};
use super::several::names;
use super::staged::Place;
use super::{Answer, Ground, Inputs, Plan, Route, Rule, Scope, Shape, Template, Workspace};
use crate::error::{SqlError, SqlState};
use crate::map::{KeyId, ShardId, ShardMap};

/// A route, explained.
#[derive(Clone, Debug)]
pub struct Explained {
    /// For people: one line each.
    pub lines: Vec<String>,
    /// For programs: `kind`, `answer`, `shards`, `key`, `strategy`, `map_version`, `merge`, `statements`,
    /// `reason`; refusals have `sqlstate`, `detail` and `hint` too.
    pub json: Value,
}

/// Which key decided.
struct KeyReport {
    /// None: a number of a shard did.
    key: Option<KeyId>,
    name: String,
    values: Vec<String>,
    source: &'static str,
}

/// The query that EXPLAIN or COPY … TO STDOUT is about.
#[derive(Clone, Debug)]
pub struct QueryWithin {
    /// Its text.
    pub query: String,
    /// COPY, else EXPLAIN.
    pub copies: bool,
}

impl Explained {
    /// Refused with 0A000: what has no route of its own, as EXPLAIN or COPY, may have that of its query.
    pub fn is_unsupported(&self) -> bool {
        self.json.get("sqlstate").is_some_and(|code| code == SqlState::FEATURE_NOT_SUPPORTED.0)
    }

    /// What becomes of an INSERT that is refused for keys without a home, when it records these homes first.
    #[must_use]
    pub fn with_homes(mut self, map: &ShardMap, homes: &[(String, ShardId)]) -> Self {
        let refused = self.json.get("kind").is_some_and(|kind| kind == "refused");
        let Some((_, first)) = homes.first().filter(|_| refused) else { return self };
        let told: Vec<String> = homes
            .iter()
            .map(|(value, home)| format!("{value} on {}", map.shard_name(*home)))
            .collect();
        let reason = format!("INSERT records homes for new keys first: {}", told.join(", "));
        let version = map.version_told();
        if homes.iter().all(|(_, home)| home == first) {
            let shard = map.shard_name(*first);
            return Self {
                lines: vec![
                    "Route: one (relay)".to_owned(),
                    format!("  Shards: {shard}"),
                    format!("  Rule: {reason}"),
                    format!("  Map version: {version}"),
                ],
                json: json!({
                    "kind": "one", "answer": "relay", "shards": [shard], "key": null, "strategy": null,
                    "map_version": version, "merge": [], "statements": [], "reason": reason,
                }),
            };
        }
        self.lines.retain(|line| !line.starts_with("  Hint: "));
        let at = self.lines.len().saturating_sub(1);
        self.lines.insert(at, format!("  Hint: {reason}."));
        if let Some(hint) = self.json.get_mut("hint") {
            *hint = format!("{reason}.").into();
        }
        self
    }

    /// A query's route as that of what is about it; `None` where there is none.
    pub fn about(mut self, within: &QueryWithin) -> Option<Self> {
        let relayed = match self.json.get("answer").and_then(Value::as_str)? {
            "relay" => true,
            "stream" | "combine" | "workspace" => false,
            _ => return None,
        };
        if relayed && !within.copies {
            return None;
        }
        let step = if within.copies {
            "copy the rows to the client"
        } else {
            "show each shard's plan of its part"
        };
        let steps = self.json.get_mut("merge").and_then(Value::as_array_mut)?;
        steps.push(step.into());
        let merge = self.lines.iter_mut().find(|line| line.starts_with("  Merge: "));
        match merge {
            Some(line) => {
                line.push_str(", ");
                line.push_str(step);
            }
            None => self.lines.push(format!("  Merge: {step}")),
        }
        Some(self)
    }

    /// What the proxy answers itself.
    pub fn local(map: &ShardMap) -> Self {
        let reason = "the proxy answers it itself";
        Self {
            lines: vec!["Route: local".to_owned(), format!("  Rule: {reason}")],
            json: json!({
                "kind": "local", "answer": "local", "shards": [], "key": null, "strategy": null,
                "map_version": map.version_told(), "merge": [], "statements": [], "reason": reason,
            }),
        }
    }
}

pub(super) fn explain(
    template: &Template,
    map: &ShardMap,
    inputs: &Inputs<'_>,
    scope: &Scope<'_>,
) -> Explained {
    match template.decide(map, inputs, scope) {
        Ok((plan, rule)) => {
            let key = key_report(template, map, inputs, scope);
            routed(map, inputs, &plan, rule, key.as_ref())
        }
        Err(error) => refused(map, &error),
    }
}

fn routed(
    map: &ShardMap,
    inputs: &Inputs<'_>,
    plan: &Plan,
    rule: Rule,
    key: Option<&KeyReport>,
) -> Explained {
    let (kind, shards) = match &plan.route {
        Route::One(shard) => ("one", vec![map.shard_name(*shard).to_owned()]),
        Route::Database(database) => ("one", vec![map.shard_name(database.shard).to_owned()]),
        Route::Many(shards) => ("many", names(map, shards)),
        Route::All => ("all", names(map, &map.all_shards())),
        Route::Any => ("any", vec![map.shard_name(map.default_shard()).to_owned()]),
        Route::Nowhere => ("none", vec![map.shard_name(map.default_shard()).to_owned()]),
    };
    // What a shard is sent has one time in it, not the word for it.
    let gathered =
        matches!(plan.answer, Answer::Stream(_) | Answer::Merge(_) | Answer::Workspace(_));
    let timed = shards
        .first()
        .filter(|_| gathered)
        .and_then(|first| Some((first, plan.told(first, inputs.text, inputs.standard_strings)?)));
    let (clock, plan) = match &timed {
        Some((first, timed)) => (Some(*first), timed),
        None => (None, plan),
    };
    let answer = match &plan.answer {
        Answer::Relay => "relay",
        Answer::Stream(_) | Answer::Merge(_) => "stream",
        Answer::Workspace(workspace) if workspace.combined => "combine",
        Answer::Broadcast => "broadcast",
        Answer::InTurn => "in turn",
        Answer::Workspace(_) => "workspace",
        Answer::Staged(_) => "staged",
    };
    let mut merge = merge_steps(map, &plan.answer);
    if let Some(first) = clock {
        merge.insert(0, format!("ask {first} for the time, or take that of the transaction"));
    }
    let sql = plan.rewritten.as_deref().unwrap_or(inputs.text);
    let strategy = key.and_then(|k| map.key(k.key?)).map(|k| match map.sole_key() {
        Some(_) => "database",
        None => k.strategy.name(),
    });
    let own = match &plan.route {
        Route::Database(database) => Some(database.name.as_str()),
        _ => map.sole_key().map(|_| map.database()),
    };
    let reason = match own {
        Some(name) => format!("the key has a database of its own: {name}"),
        None => reason(rule).to_owned(),
    };
    let mut lines =
        vec![format!("Route: {kind} ({answer})"), format!("  Shards: {}", shards.join(", "))];
    if let Some(report) = key {
        let by = strategy.map_or_else(String::new, |name| format!(", strategy {name}"));
        lines.push(format!(
            "  Key: {} = {} (from the {}{by})",
            report.name,
            report.values.join(", "),
            report.source,
        ));
    }
    lines.push(format!("  Rule: {reason}"));
    lines.push(format!("  Map version: {}", map.version_told()));
    if !merge.is_empty() {
        lines.push(format!("  Merge: {}", merge.join(", ")));
    }
    if plan.rewritten.is_some() {
        lines.push(format!("  SQL: {sql}"));
    }
    let statements: Vec<Value> = match &plan.answer {
        Answer::Workspace(workspace) => fetched(map, workspace),
        Answer::Merge(merge) => {
            let named = gathered_from(map, &plan.route);
            let sql = |shard| &merge.text_worker(shard).sql;
            named.map(|(shard, name)| json!({"shard": name, "sql": sql(shard)})).collect()
        }
        Answer::Stream(texts) => {
            let named = gathered_from(map, &plan.route);
            let own = |shard| texts.of(shard).unwrap_or(sql);
            named.map(|(shard, name)| json!({"shard": name, "sql": own(shard)})).collect()
        }
        // Where its query goes is what that has as its own route.
        Answer::Staged(_) => Vec::new(),
        Answer::Relay | Answer::Broadcast | Answer::InTurn => shards
            .iter()
            .map(|shard| match own {
                Some(database) => json!({"shard": shard, "database": database, "sql": sql}),
                None => json!({"shard": shard, "sql": sql}),
            })
            .collect(),
    };
    let apart = matches!(&plan.answer, Answer::Stream(texts) if texts.iter().next().is_some());
    if apart || matches!(&plan.answer, Answer::Workspace(_) | Answer::Merge(_)) {
        for statement in &statements {
            let text = |name: &str| statement.get(name).and_then(Value::as_str).unwrap_or_default();
            lines.push(format!("  On {}: {}", text("shard"), text("sql")));
        }
    }
    let key = key.map(|report| {
        json!({
            "name": report.name,
            "values": report.values,
            "source": report.source,
        })
    });
    let json = json!({
        "kind": kind,
        "answer": answer,
        "shards": shards,
        "key": key,
        "strategy": strategy,
        "map_version": map.version_told(),
        "merge": merge,
        "statements": statements,
        "reason": reason,
    });
    Explained { lines, json }
}

/// The shards of a route, with their names.
fn gathered_from<'m>(
    map: &'m ShardMap,
    route: &Route,
) -> impl Iterator<Item = (ShardId, &'m str)> + use<'m> {
    let shards = match route {
        Route::Many(shards) => shards.clone(),
        _ => map.all_shards(),
    };
    let shards: Vec<ShardId> = shards.iter().collect();
    shards.into_iter().map(|shard| (shard, map.shard_name(shard)))
}

/// What is done with what the shards answer.
fn merge_steps(map: &ShardMap, answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Relay => Vec::new(),
        Answer::Stream(_) => vec!["concatenate".to_owned()],
        Answer::Merge(merge) => merge.steps(),
        Answer::Broadcast => vec!["commit on all shards, or on none".to_owned()],
        Answer::InTurn => vec!["one shard after the other".to_owned()],
        Answer::Staged(staged) => {
            let place = match &staged.place {
                Place::Rows(shard) => map.shard_name(*shard).to_owned(),
                Place::Temporary | Place::Cursor => "the transaction's shard".to_owned(),
                Place::Table(..) => "the table's shard".to_owned(),
            };
            vec![
                format!("bring the rows of {} to {place}", staged.query),
                format!("run over them: {} … {}", staged.head, staged.tail).trim_end().to_owned(),
            ]
        }
        Answer::Workspace(workspace) => {
            let host = map.shard_name(workspace.host);
            let mut steps: Vec<String> = Vec::new();
            for table in &workspace.tables {
                steps.push(format!("fetch {} into {} on {host}", table.table, table.name));
            }
            steps.push(format!("run on {host}: {}", workspace.sql));
            steps.push(format!("because of {}", workspace.why));
            steps
        }
    }
}

/// The statements of a workspace: what each shard is asked, then what the host runs.
fn fetched(map: &ShardMap, workspace: &Workspace) -> Vec<Value> {
    let fetches = workspace.tables.iter().flat_map(|table| &table.fetches);
    let mut statements: Vec<Value> =
        fetches.map(|(shard, sql)| json!({"shard": map.shard_name(*shard), "sql": sql})).collect();
    statements.push(json!({"shard": map.shard_name(workspace.host), "sql": workspace.sql}));
    statements
}

fn refused(map: &ShardMap, error: &SqlError) -> Explained {
    let mut lines =
        vec![format!("Route: refused ({})", error.code), format!("  {}", error.message)];
    if let Some(detail) = &error.detail {
        lines.push(format!("  Detail: {detail}"));
    }
    if let Some(hint) = &error.hint {
        lines.push(format!("  Hint: {hint}"));
    }
    lines.push(format!("  Map version: {}", map.version_told()));
    let json = json!({
        "kind": "refused",
        "answer": null,
        "shards": [],
        "key": null,
        "strategy": null,
        "map_version": map.version_told(),
        "merge": [],
        "statements": [],
        "reason": error.message,
        "sqlstate": error.code.0,
        "detail": error.detail,
        "hint": error.hint,
    });
    Explained { lines, json }
}

fn reason(rule: Rule) -> &'static str {
    match rule {
        Rule::Off => "routing is off: everything goes to the default shard",
        Rule::OneShardMap => "the map has one shard",
        Rule::Scope => "hint or session chose the shard",
        Rule::One => "all rows that can matter are on one shard",
        Rule::Fixed => "its tables live on one shard",
        Rule::Home => "the home shard, so that it means the same to everyone",
        Rule::Database => "the database is on this shard",
        Rule::KeyDatabase => "the key has a database of its own",
        Rule::Any => "every shard has the same answer",
        Rule::Nowhere => "no row can match",
        Rule::Many => "the answer is the union of the shards' answers",
        Rule::Merge => "the answer is the union of the shards' answers, in order",
        Rule::Everywhere => "every shard does the same",
        Rule::InTurn => "every shard does the same, in no transaction",
        Rule::Staged => "its query's rows are brought to the shard that they go to",
        Rule::Workspace => "one shard answers over scratch tables with the others' rows",
    }
}

/// The key that decided, and where its values came from: the statement's own first, then the scope's.
fn key_report(
    template: &Template,
    map: &ShardMap,
    inputs: &Inputs<'_>,
    scope: &Scope<'_>,
) -> Option<KeyReport> {
    let ground = Ground::new(map);
    let scope = Resolved::new(map, scope, ground.solo).ok()?;
    let Shape::Query(query) = &template.shape else { return None };
    let constants = Constants::new(inputs);
    let report = |key: KeyId, values, source| {
        let name = key_name(map, key).to_owned();
        Some(KeyReport { key: Some(key), name, values, source })
    };
    let mut own: Option<(KeyId, Vec<String>)> = None;
    for occurrence in &query.occurrences {
        let region = occurrence.restrict.region(&occurrence.types, &constants).ok()?;
        let named = region.named_values();
        match &mut own {
            None if !named.is_empty() => own = Some((occurrence.key, named)),
            Some((key, values)) if *key == occurrence.key && values.len() < VALUES_TOLD_MAX => {
                for value in named {
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
            }
            _ => {}
        }
    }
    if let Some((key, values)) = own {
        return report(key, values, "statement");
    }
    let stored = Constants::stored(inputs);
    for insert in &query.inserts {
        let values = insert.named_keys(&stored);
        if !values.is_empty() {
            return report(insert.key, values, "statement");
        }
    }
    let regions = regions(query, map, &constants, &scope).ok()?;
    let led = query.occurrences.iter().zip(&regions).find(|(o, region)| {
        scope.key(o.key).is_none() && !o.vias.is_empty() && !region.named_values().is_empty()
    });
    if let Some((occurrence, region)) = led {
        let values = region.named_values();
        return report(occurrence.key, values, "lookup");
    }
    let filtered = query.occurrences.iter().zip(&regions).map(|(o, _)| o.key);
    let inserted = query.inserts.iter().map(|insert| insert.key);
    if let Some(key) = filtered.chain(inserted).find_map(|key| scope.key(key)) {
        return report(key.key, vec![key.value.to_string()], key.origin.name());
    }
    let mut numbers = query.occurrences.iter().flat_map(|occurrence| &occurrence.numbers);
    let (name, values) = numbers.find_map(|number| number.named(&constants))?;
    (ground.solo.is_none()).then(|| KeyReport {
        key: None,
        name: name.to_owned(),
        values,
        source: "statement",
    })
}
