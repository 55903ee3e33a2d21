//! `[functions]`, `[[databases]]`, `[sessions]`, `[policy]`, `[control]`.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Names;
use super::shards::{region_label, url};
use super::strategies::shard_list;
use crate::map::KeyId;
use crate::map::fault::did_you_mean;
use crate::map::hash::{Hash, VIRTUAL_NODES_DEFAULT};
use crate::map::model::{
    Control, CrossShardReads, CrossShardSnapshot, CrossShardWrites, DatabaseRule, DatabaseStrategy,
    FunctionRule, Policy, Residency, UnlistedTables,
};
use crate::map::reader::{At, Fields, Node, Reader};

/// How often the control database is asked when the map doesn't say.
const POLL_DEFAULT: Duration = Duration::from_secs(10);

/// `[functions]`.
pub(super) fn functions(
    r: &mut Reader<'_>,
    root: &mut Fields<'_>,
) -> FxHashMap<String, FunctionRule> {
    let words =
        [("pure", FunctionRule::Pure), ("home", FunctionRule::Home), ("all", FunctionRule::All)];
    let mut functions = FxHashMap::default();
    for node in root.entries_of(r, "functions") {
        if let Some(rule) = node.choice(r, &words) {
            functions.insert(node.name, rule);
        }
    }
    functions
}

/// `[[databases]]`.
pub(super) fn databases(
    r: &mut Reader<'_>,
    names: &Names,
    root: &mut Fields<'_>,
) -> Vec<DatabaseRule> {
    let tables = root.tables(r, "databases");
    let mut seen: Vec<At<String>> = Vec::new();
    tables.into_iter().filter_map(|fields| database(r, names, fields, &mut seen)).collect()
}

fn database(
    r: &mut Reader<'_>,
    names: &Names,
    mut fields: Fields<'_>,
    seen: &mut Vec<At<String>>,
) -> Option<DatabaseRule> {
    let pattern = fields.require("match").and_then(|node| node.string(r));
    if let Some(pattern) = &pattern
        && let Some(first) = seen.iter().find(|first| first.value == pattern.value)
    {
        r.fault(&pattern.span, format!("two sections match \"{}\"", pattern.value))
            .label("again here")
            .other(first.span.clone(), "first here")
            .hint("the first one has a shard for every name, and this is never asked");
    }
    let words = [("hash", false), ("directory", true)];
    let by_directory = fields.require("strategy").and_then(|node| node.choice(r, &words));
    // A directory has no place for names that it does not list: the next section is asked for those.
    if by_directory == Some(false) {
        seen.extend(pattern.clone());
    }
    let shards = fields.take("shards");
    let entries = fields.entries_of(r, "entries");
    let strategy = match by_directory {
        Some(false) => {
            let shards = shards.or_else(|| fields.require("shards"));
            let ids = shards.and_then(|node| shard_list(r, names, &node)).unwrap_or_default();
            let points = ids
                .iter()
                .filter_map(|id| Some((*id, names.rings.get(usize::from(id.0))?.as_str())));
            let ring = Hash::consistent(String::new(), VIRTUAL_NODES_DEFAULT, points);
            Some(DatabaseStrategy::Hash(ring))
        }
        Some(true) => {
            let mut listed = BTreeMap::new();
            for node in entries {
                if let Some(pattern) = &pattern
                    && !crate::map::databases::matches(&pattern.value, &node.name)
                {
                    let told = format!("{} does not match \"{}\"", node.name, pattern.value);
                    r.fault(&node.key_span, told)
                        .other(pattern.span.clone(), "of other names nothing is looked up here")
                        .hint("list it in a section that matches its name");
                }
                if let Some(shard) = node.string(r).and_then(|name| names.shard(r, &name)) {
                    listed.insert(node.name, shard);
                }
            }
            Some(DatabaseStrategy::Directory(listed))
        }
        None => None,
    };
    fields.finish(r);
    Some(DatabaseRule { pattern: pattern?.value, strategy: strategy? })
}

/// `[sessions]`.
pub(super) fn sessions(
    r: &mut Reader<'_>,
    names: &Names,
    root: &mut Fields<'_>,
) -> (Option<KeyId>, Option<String>) {
    let Some(mut fields) = root.table(r, "sessions") else { return (None, None) };
    let key = fields.string(r, "key").and_then(|name| names.key(r, &name));
    let setting = fields.string(r, "key_setting");
    if let Some(setting) = setting.as_ref().filter(|setting| !is_custom_setting(&setting.value)) {
        r.fault(&setting.span, format!("\"{}\" can't be the key's setting", setting.value))
            .label("PostgreSQL takes other names for settings of its own")
            .hint("a setting of an application has a dot in its name: app.tenant_id");
    }
    fields.finish(r);
    (key, setting.map(|setting| setting.value.to_lowercase()))
}

/// A setting that an extension or an application could have (`valid_custom_variable_name` of PostgreSQL).
fn is_custom_setting(name: &str) -> bool {
    let word = |part: &str| {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        part.starts_with(first) && part.chars().all(|c| first(c) || c.is_ascii_digit() || c == '$')
    };
    name.contains('.') && name.split('.').all(word)
}

/// `[policy]`. `regions`: those of all shards, where they are known.
pub(super) fn policy(
    r: &mut Reader<'_>,
    root: &mut Fields<'_>,
    regions: Option<&[&str]>,
) -> Option<Policy> {
    let mut fields = root.table(r, "policy")?;
    let mut policy = Policy::default();
    let words = [("allow", CrossShardReads::Allow), ("refuse", CrossShardReads::Refuse)];
    if let Some(reads) = fields.choice(r, "cross_shard_reads", &words) {
        policy.cross_shard_reads = reads;
    }
    let words = [("two-phase", CrossShardWrites::TwoPhase), ("refuse", CrossShardWrites::Refuse)];
    if let Some(writes) = fields.choice(r, "cross_shard_writes", &words) {
        policy.cross_shard_writes = writes;
    }
    let words =
        [("refuse", CrossShardSnapshot::Refuse), ("best-effort", CrossShardSnapshot::BestEffort)];
    if let Some(snapshot) = fields.choice(r, "cross_shard_snapshot", &words) {
        policy.cross_shard_snapshot = snapshot;
    }
    let words =
        [("default-shard", UnlistedTables::DefaultShard), ("refuse", UnlistedTables::Refuse)];
    if let Some(unlisted) = fields.choice(r, "unlisted_tables", &words) {
        policy.unlisted_tables = unlisted;
    }
    policy.fill_keys = fields.boolean(r, "fill_keys").unwrap_or(policy.fill_keys);
    policy.trust_shard_id = fields.boolean(r, "trust_shard_id").unwrap_or(policy.trust_shard_id);
    for node in fields.entries_of(r, "residency") {
        region_label(r, &At { value: node.name.clone(), span: node.key_span.clone() });
        if let Some(regions) = regions
            && !regions.contains(&node.name.as_str())
        {
            let near = did_you_mean(&node.name, regions.iter().copied());
            let hint = near.map_or_else(
                || format!("the shards' regions are {}", regions.join(", ")),
                |near| format!("did you mean region \"{near}\"?"),
            );
            // Its shards may be yet to come, or gone.
            r.warn(&node.key_span, format!("no shard is in region \"{}\"", node.name))
                .label("nothing is kept apart by this")
                .hint(hint);
        }
        if let Some(together) = node.strings(r) {
            let together = together.into_iter().map(|region| region.value).collect();
            policy.residency.push(Residency { region: node.name, together });
        }
    }
    fields.finish(r);
    Some(policy)
}

/// `[control]`.
pub(super) fn control(r: &mut Reader<'_>, root: &mut Fields<'_>) -> Option<Control> {
    let mut fields = root.table(r, "control")?;
    let url = fields.require("url").and_then(|node| url(r, &node));
    let poll = fields.take("poll").map_or(Some(POLL_DEFAULT), |node| duration(r, &node));
    let key = fields.string(r, "key").map(|key| key.value);
    let cache = fields.string(r, "cache").map(|cache| cache.value);
    fields.finish(r);
    Some(Control { url: url?, poll: poll?, key, cache, key_type: None })
}

/// `10s`, `500ms`, `2min`, `1h`.
fn duration(r: &mut Reader<'_>, node: &Node<'_>) -> Option<Duration> {
    let text = node.string(r)?;
    let digits = text.value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.value.split_at(digits);
    let milliseconds = match unit.trim() {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" | "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok().filter(|n| *n > 0);
    let found = number.zip(milliseconds).and_then(|(n, ms)| n.checked_mul(ms));
    if found.is_none() {
        r.fault(&text.span, format!("{} is not a duration", node.name))
            .hint("write 10s, 500ms or 2min");
    }
    found.map(Duration::from_millis)
}
