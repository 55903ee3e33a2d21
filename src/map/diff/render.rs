//! A difference in words and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Change, KeyChange, MapDiff, ShardChange, Share};

/// Moves that the text lists for a key; the JSON has them all.
const LINES_MAX: usize = 50;

impl MapDiff {
    /// In lines, `+` for what comes, `-` for what goes, `~` for what changes. Empty when nothing does.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for shard in &self.shards {
            match shard {
                ShardChange::Added(name) => line(&mut text, &format!("+ shard {name}")),
                ShardChange::Removed(name) => line(&mut text, &format!("- shard {name}")),
                ShardChange::Changed(name, changes) => {
                    line(&mut text, &format!("~ shard {name}"));
                    for change in changes {
                        change_line(&mut text, "    ", change);
                    }
                }
            }
        }
        for key in &self.keys {
            key_text(&mut text, key);
        }
        for table in &self.tables {
            line(&mut text, &format!("~ table {}: {}", table.name, arrow(table)));
        }
        for setting in &self.settings {
            line(&mut text, &format!("~ {}: {}", setting.name, arrow(setting)));
        }
        text
    }

    /// In one line, for a list of many.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for shard in &self.shards {
            parts.push(match shard {
                ShardChange::Added(name) => format!("shard {name} added"),
                ShardChange::Removed(name) => format!("shard {name} removed"),
                ShardChange::Changed(name, changes) => {
                    let what: Vec<&str> = changes.iter().map(|c| c.name.as_str()).collect();
                    format!("shard {name}: {}", what.join(", "))
                }
            });
        }
        parts.extend(self.keys.iter().map(key_summary));
        parts.extend(self.tables.iter().map(|table| format!("table {}", table.name)));
        parts.extend(self.settings.iter().map(|setting| match setting.name.as_str() {
            // Which keys: what is written in a hurry is read later.
            "frozen" => format!("frozen: {}", setting.new.as_deref().unwrap_or("none")),
            name => name.to_owned(),
        }));
        if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
    }

    /// All of it, for programs.
    pub fn json(&self) -> Value {
        let shards: Vec<Value> = self
            .shards
            .iter()
            .map(|shard| match shard {
                ShardChange::Added(name) => json!({"shard": name, "change": "added"}),
                ShardChange::Removed(name) => json!({"shard": name, "change": "removed"}),
                ShardChange::Changed(name, changes) => {
                    json!({"shard": name, "change": "changed", "settings": change_list(changes)})
                }
            })
            .collect();
        json!({
            "shards": shards,
            "keys": self.keys.iter().map(key_json).collect::<Vec<_>>(),
            "tables": change_list(&self.tables),
            "settings": change_list(&self.settings),
            "moves_rows": self.moves_rows(),
        })
    }
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}

fn arrow(change: &Change) -> String {
    let say = |value: &Option<String>| value.clone().unwrap_or_else(|| "not listed".to_owned());
    format!("{} → {}", say(&change.old), say(&change.new))
}

fn change_line(text: &mut String, indent: &str, change: &Change) {
    line(text, &format!("{indent}{}: {}", change.name, arrow(change)));
}

fn key_text(text: &mut String, key: &KeyChange) {
    let mark = match (key.added, key.removed) {
        (true, _) => '+',
        (_, true) => '-',
        _ => '~',
    };
    line(text, &format!("{mark} key {}", key.key));
    for change in &key.settings {
        change_line(text, "    ", change);
    }
    for one in key.moves.iter().take(LINES_MAX) {
        let say = |shard: &Option<String>| shard.clone().unwrap_or_else(|| "nowhere".to_owned());
        line(text, &format!("    {}: {} → {}", one.what, say(&one.from), say(&one.to)));
    }
    let more = key.moves.len().saturating_sub(LINES_MAX) + key.moves_unlisted;
    if more > 0 {
        line(text, &format!("    and {more} more"));
    }
    if let Some(share) = &key.share {
        let about = if share.exact { "" } else { "about " };
        let percent = share.moved * 100.0;
        line(text, &format!("    {about}{percent:.1} % of the keys that are hashed change shard"));
        for (from, to, part) in &share.flows {
            let mut flow = format!("        {from} → {to}: {about}");
            // Writing to a String can't fail.
            let _ = write!(flow, "{:.1} %", part * 100.0);
            line(text, &flow);
        }
    }
    if key.unknown {
        line(text, "    any key may change shard: the two placements can't be compared");
    }
    if !key.tables.is_empty() {
        line(text, &format!("    tables with rows of it: {}", key.tables.join(", ")));
    }
}

fn key_summary(key: &KeyChange) -> String {
    let name = &key.key;
    if key.added {
        return format!("key {name} added");
    }
    if key.removed {
        return format!("key {name} removed");
    }
    let mut parts: Vec<String> = key.settings.iter().map(|change| change.name.clone()).collect();
    let moves = key.moves.len() + key.moves_unlisted;
    match moves {
        0 => {}
        1 => parts.extend(key.moves.first().map(|one| format!("{} moves", one.what))),
        more => parts.push(format!("{more} moves")),
    }
    if let Some(Share { moved, .. }) = key.share {
        parts.push(format!("{:.1} % of the hashed keys move", moved * 100.0));
    }
    if key.unknown {
        parts.push("any key may move".to_owned());
    }
    format!("key {name}: {}", parts.join(", "))
}

fn change_list(changes: &[Change]) -> Vec<Value> {
    let one = |change: &Change| json!({"name": change.name, "old": change.old, "new": change.new});
    changes.iter().map(one).collect()
}

fn key_json(key: &KeyChange) -> Value {
    let moves: Vec<Value> = key
        .moves
        .iter()
        .map(|one| json!({"what": one.what.to_string(), "from": one.from, "to": one.to}))
        .collect();
    let share = key.share.as_ref().map(|share| {
        let flow = |(from, to, part): &(String, String, f64)| {
            json!({"from": from, "to": to, "share": part})
        };
        json!({
            "moved": share.moved,
            "exact": share.exact,
            "flows": share.flows.iter().map(flow).collect::<Vec<_>>(),
        })
    });
    json!({
        "key": key.key,
        "change": if key.added { "added" } else if key.removed { "removed" } else { "changed" },
        "settings": change_list(&key.settings),
        "moves": moves,
        "moves_unlisted": key.moves_unlisted,
        "share": share,
        "unknown": key.unknown,
        "tables": key.tables,
    })
}
