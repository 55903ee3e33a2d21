//! `[functions]`, `[[databases]]`, `[sessions]`, `[policy]`, `[control]`.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Names;
use super::shards::{region_label, url};
use crate::map::hash::{Hash, VIRTUAL_NODES_DEFAULT};
use crate::map::model::{
    Control, CrossShardReads, CrossShardSnapshot, CrossShardWrites, DatabaseRule, DatabaseStrategy,
    FunctionRule, Policy, Residency, UnlistedTables,
};
use crate::map::reader::{At, Fields, Node, Reader};
use crate::map::{KeyId, ShardId};

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
    tables.into_iter().filter_map(|fields| database(r, names, fields)).collect()
}

fn database(r: &mut Reader<'_>, names: &Names, mut fields: Fields<'_>) -> Option<DatabaseRule> {
    let pattern = fields.require("match").and_then(|node| node.string(r));
    let words = [("hash", false), ("directory", true)];
    let by_directory = fields.require("strategy").and_then(|node| node.choice(r, &words));
    let shards = fields.take("shards").and_then(|node| node.strings(r));
    let entries = fields.entries_of(r, "entries");
    let strategy = match by_directory {
        Some(false) => {
            if shards.is_none() {
                fields.require("shards");
            }
            let ids: Vec<ShardId> =
                shards.iter().flatten().filter_map(|name| names.shard(r, name)).collect();
            let points = ids
                .iter()
                .filter_map(|id| Some((*id, names.rings.get(usize::from(id.0))?.as_str())));
            let ring = Hash::consistent(String::new(), VIRTUAL_NODES_DEFAULT, points);
            Some(DatabaseStrategy::Hash(ring))
        }
        Some(true) => {
            let mut listed = BTreeMap::new();
            for node in entries {
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
    let setting = fields.string(r, "key_setting").map(|s| s.value.to_lowercase());
    fields.finish(r);
    (key, setting)
}

/// `[policy]`.
pub(super) fn policy(r: &mut Reader<'_>, root: &mut Fields<'_>) -> Option<Policy> {
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
