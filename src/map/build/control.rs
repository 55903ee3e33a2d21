//! Shards, ranges and directory from the control tables, where a map has a section `[control]`.
//!
//! The rows are written out as lines of text, so that a fault can point at its row and column as it points
//! into the file. Of `[[shards]]` in the file only what the tables have no column for is taken.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::shards::{REGION_CHARS_MAX, URL_FORM, url};
use super::{Names, strategies};
use crate::datum::{KeyType, KeyValue};
use crate::map::control::{ShardRow, Tables};
use crate::map::entries::Entries;
use crate::map::fault::Source;
use crate::map::model::{Control, Key, Shard};
use crate::map::range::{RangeEntry, Ranges};
use crate::map::reader::{At, Fields, Node, Reader};
use crate::map::target::ConnectionTarget;
use crate::map::{KeyId, SHARDS_MAX, ShardId};

/// What the control tables say of one key.
pub(super) struct Feed {
    /// The key's name.
    pub(super) key: String,
    /// Where the key's name stands in the file.
    pub(super) key_span: Range<usize>,
    /// The rows of `tenant_shard_map`; `None` when they are of another type than the key.
    pub(super) entries: Option<Entries>,
    /// The ranges of `shard_config`; `None` when they are faulty.
    pub(super) ranges: Option<Ranges>,
}

/// The shards as the tables have them.
pub(super) struct Read {
    pub(super) shards: Vec<Option<Shard>>,
    pub(super) names: Names,
    pub(super) primary: Option<Primary>,
    /// The rows, when none of them is `is_primary` and nothing else is wrong with the column.
    pub(super) no_primary: Option<Arc<Source>>,
}

/// The rows that are `is_primary`; at least one.
pub(super) struct Primary {
    source: Arc<Source>,
    rows: Vec<(ShardId, String, Range<usize>)>,
}

impl Primary {
    /// The default shard, when there is one such row only.
    pub(super) fn only(&self, r: &mut Reader<'_>) -> Option<ShardId> {
        if let [(first, _, first_at), (_, _, at), ..] = self.rows.as_slice() {
            r.fault_in(&self.source, at, "two shards are is_primary")
                .label("this one")
                .other(first_at.clone(), "and this one")
                .hint("leave one of them, or write default_shard in the map file");
            // A fault that others need not repeat.
            return Some(*first);
        }
        self.rows.first().map(|(shard, _, _)| *shard)
    }
}

/// Adds the fault that no row is the default shard; always `None`.
pub(super) fn lacks_primary(r: &mut Reader<'_>, source: &Arc<Source>) -> Option<ShardId> {
    r.fault_in(source, &(0..0), "no shard is_primary").hint(
        "UPDATE shard_config SET is_primary = true WHERE shard_id = …, or write default_shard in the map file",
    );
    None
}

/// The key that the tables are of, and its type as far as it can be read: the one that `[control]` names,
/// else the only directory, else the only key with ranges.
pub(super) fn fed_key<'n, 't>(
    keys: &'n [Node<'t>],
    wanted: Option<&str>,
) -> Option<(&'n Node<'t>, Option<KeyType>)> {
    // Several directories are a fault that [`check_key`] adds; the first stands for them.
    let with = |strategy: &str| keys.iter().find(|key| key.peek("strategy") == Some(strategy));
    let key = match wanted {
        // A name that is wrong has its own fault; others need not follow from it.
        Some(name) if keys.iter().any(|key| key.name == name) => {
            keys.iter().find(|key| key.name == name)?
        }
        _ => with("directory").or_else(|| with("range"))?,
    };
    Some((key, key.peek("type").and_then(strategies::key_type_of)))
}

/// Whether it is clear which key the tables are of.
pub(super) fn check_key(
    r: &mut Reader<'_>,
    names: &Names,
    keys: &[Node<'_>],
    node: &Node<'_>,
    control: &Control,
) {
    if let Some(key) = &control.key {
        names.key(r, &At { value: key.clone(), span: node.key_span.clone() });
        return;
    }
    let directories = keys.iter().filter(|key| key.peek("strategy") == Some("directory")).count();
    if directories > 1 {
        r.fault(&node.key_span, "of which key is tenant_shard_map?")
            .label(format!("{directories} keys have strategy \"directory\""))
            .hint("name it here: key = \"tenant\"");
    }
}

/// Whether the file and `is_primary` mean the same default shard.
pub(super) fn check_default(
    r: &mut Reader<'_>,
    name: &At<String>,
    shard: Option<ShardId>,
    primary: Option<&Primary>,
) {
    let (Some(shard), Some(primary)) = (shard, primary) else { return };
    if !primary.rows.iter().any(|(row, _, _)| *row == shard) {
        let rows: Vec<&str> = primary.rows.iter().map(|(_, name, _)| name.as_str()).collect();
        r.fault(
            &name.span,
            format!("default_shard is \"{}\", and in shard_config another is_primary", name.value),
        )
        .label(format!("is_primary: {}", rows.join(", ")))
        .hint("take default_shard out of the map file, or set is_primary where it belongs");
    }
}

/// The rows of `shard_config` as text, and where each value stands in it.
struct Written {
    source: Arc<Source>,
    rows: Vec<Places>,
}

/// Where the values of a row stand.
#[derive(Default, Clone)]
struct Places {
    row: Range<usize>,
    id: Range<usize>,
    region: Range<usize>,
    connection: Range<usize>,
    primary: Range<usize>,
    active: Range<usize>,
    min: Range<usize>,
    max: Range<usize>,
}

fn write_out(tables: &Tables) -> Written {
    let mut text = String::new();
    let mut rows = Vec::with_capacity(tables.shards.len());
    for row in &tables.shards {
        let mut places = Places::default();
        let start = text.len();
        let mut put = |name: &str, value: Option<&str>| {
            let start = text.len();
            text.push_str(name);
            text.push_str(" = ");
            // A line per row, whatever is in it.
            let value = value.unwrap_or("NULL").trim_end();
            text.extend(value.chars().map(|c| if c.is_control() { '?' } else { c }));
            let place = start..text.len();
            text.push_str("  ");
            place
        };
        places.id = put("shard_id", row.shard_id.as_deref());
        places.min = put("min_tenant_id", row.min_tenant_id.as_deref());
        places.max = put("max_tenant_id", row.max_tenant_id.as_deref());
        places.connection = put("connection_string", Some(row.connection_string.shown()));
        places.region = put("region_code", row.region_code.as_deref());
        places.primary = put("is_primary", row.is_primary.as_deref());
        places.active = put("is_active", row.is_active.as_deref());
        places.row = start..text.len();
        text.push('\n');
        rows.push(places);
    }
    let name = format!("shard_config in {}", tables.database);
    Written { source: Arc::new(Source::of_table(name, &text, 1)), rows }
}

/// What the file adds to a row.
#[derive(Default)]
pub(super) struct Inline {
    name: Option<At<String>>,
    ring_name: Option<String>,
    url: Option<ConnectionTarget>,
    /// The url is there, right or wrong.
    has_url: bool,
    replicas: Vec<ConnectionTarget>,
}

/// The keys that may not be written. A freeze of what the map doesn't know keeps nobody from anything: a
/// warning says so.
pub(super) fn freezes(
    r: &mut Reader<'_>,
    tables: &Tables,
    keys: &[Key],
) -> Vec<(KeyId, KeyValue<'static>)> {
    let mut frozen = Vec::new();
    for (name, text) in &tables.freezes {
        let at = keys.iter().position(|key| key.name == *name);
        let key = at.and_then(|at| keys.get(at));
        let value = key.map(|key| KeyValue::from_text(key.key_type(), text));
        match (at.and_then(|at| u8::try_from(at).ok()), value) {
            (Some(at), Some(Ok(value))) => frozen.push((KeyId(at), value.into_owned())),
            (_, Some(Err(error))) => {
                r.warn(&(0..0), format!("frozen {name} \"{text}\": {}", error.message));
            }
            _ => {
                r.warn(&(0..0), format!("frozen {name} \"{text}\": the map has no key {name}"));
            }
        }
    }
    frozen.sort_unstable();
    frozen
}

/// Reads the shards of the tables.
pub(super) fn shards(
    r: &mut Reader<'_>,
    tables: &Tables,
    listed: Vec<Fields<'_>>,
    fed: Option<&(&Node<'_>, Option<KeyType>)>,
) -> Read {
    let written = write_out(tables);
    let mut names = Names::default();
    let inline = inline_shards(r, Some(tables), listed);
    let mut shards = Vec::with_capacity(tables.shards.len());
    let mut primary = Vec::new();
    for (row, places) in tables.shards.iter().zip(&written.rows) {
        let id = read_id(r, &written, places, row, &names);
        let own = id.and_then(|id| inline.iter().find(|(of, _)| *of == id)).map(|(_, own)| own);
        let shard = shard(r, &written, places, row, id, own);
        let name = match (&shard, own.and_then(|own| own.name.as_ref()), id) {
            (Some(shard), _, _) => shard.name.clone(),
            (None, Some(name), _) => name.value.clone(),
            (None, None, Some(id)) => format!("shard{id}"),
            (None, None, None) => String::new(),
        };
        if !name.is_empty() && names.shards.contains(&name) {
            r.fault_in(&written.source, &places.row, format!("two shards are called \"{name}\""))
                .hint("the names are those of [[shards]] in the map file, else shard and the id");
        }
        if truth(row.is_primary.as_deref()) == Some(true)
            && let Ok(at) = u16::try_from(names.shards.len())
        {
            primary.push((ShardId(at), name.clone(), places.row.clone()));
        }
        let ring_name = shard.as_ref().map_or_else(String::new, |shard| shard.ring_name.clone());
        names.rings.push(ring_name);
        names.active.push(truth(row.is_active.as_deref()) != Some(false));
        names.ids.push(id.unwrap_or_default());
        names.shards.push(name);
        shards.push(shard);
    }
    check_rows(r, tables, &written, &shards);
    names.feed = fed.map(|(key, ty)| Feed {
        key: key.name.clone(),
        key_span: key.key_span.clone(),
        entries: ty
            .filter(|ty| Entries::new(*ty).is_like(&tables.entries))
            .map(|_| tables.entries.clone()),
        // Ranges that no strategy uses may say what they like.
        ranges: ty
            .filter(|_| {
                key.peek("strategy") == Some("range")
                    || key.peek_in("directory", "otherwise") == Some("range")
            })
            .and_then(|ty| ranges(r, tables, &written, ty)),
    });
    if fed.is_some() {
        check_tenants(r, tables, &names);
    }
    let source = Arc::clone(&written.source);
    let unclear = tables
        .shards
        .iter()
        .any(|row| row.is_primary.is_some() && truth(row.is_primary.as_deref()).is_none());
    let missing = primary.is_empty() && !unclear && !tables.shards.is_empty();
    let no_primary = missing.then(|| Arc::clone(&source));
    let primary = (!primary.is_empty()).then_some(Primary { source, rows: primary });
    Read { shards, names, primary, no_primary }
}

/// `[[shards]]` of the file, by id: what they add to the rows of the tables, where those are known.
pub(super) fn inline_shards(
    r: &mut Reader<'_>,
    tables: Option<&Tables>,
    listed: Vec<Fields<'_>>,
) -> Vec<(i16, Inline)> {
    let mut found: Vec<(i16, Inline)> = Vec::new();
    for mut fields in listed {
        let node = fields.require("id");
        let id = node.as_ref().and_then(|n| n.integer(r, (i16::MIN + 1).into()..=i16::MAX.into()));
        let id = id.and_then(|id| i16::try_from(id).ok());
        let mut own = Inline { name: fields.string(r, "name"), ..Inline::default() };
        own.ring_name = fields.string(r, "ring_name").map(|ring| ring.value);
        if let Some(node) = fields.take("url") {
            own.has_url = true;
            own.url = url(r, &node);
        }
        let replicas = fields.take("replicas").and_then(|node| node.array(r)).unwrap_or_default();
        own.replicas = replicas.iter().filter_map(|node| url(r, node)).collect();
        for name in ["region", "datacenter", "active"] {
            if let Some(node) = fields.take(name) {
                r.fault(&node.key_span, format!("{name} of a shard comes from shard_config"))
                    .hint("with [control], [[shards]] takes id, url, name, ring_name and replicas");
            }
        }
        fields.finish(r);
        let (Some(id), Some(node)) = (id, node) else { continue };
        let row = id.to_string();
        let is_row = |shard: &ShardRow| shard.shard_id.as_deref() == Some(&row);
        if tables.is_some_and(|tables| !tables.shards.iter().any(is_row)) {
            r.warn(&node.span(), format!("shard_config has no shard_id {id}"))
                .label("this shard is not there");
        }
        if found.iter().any(|(of, _)| *of == id) {
            r.fault(&node.span(), format!("two shards have the id \"{id}\""))
                .label("again here")
                .hint("each section adds to the row of shard_config that has its id");
        }
        found.push((id, own));
    }
    found
}

fn read_id(
    r: &mut Reader<'_>,
    written: &Written,
    places: &Places,
    row: &ShardRow,
    names: &Names,
) -> Option<i16> {
    let Some(text) = &row.shard_id else {
        r.fault_in(&written.source, &places.id, "shard_id is NULL")
            .hint("give the shard a number: tenant_shard_map and [[shards]] name it by that");
        return None;
    };
    let Some(id) = text.trim().parse::<i16>().ok().filter(|id| *id != i16::MIN) else {
        r.fault_in(
            &written.source,
            &places.id,
            format!("shard_id must be from -32767 to 32767, not {text}"),
        )
        .hint("shard_id is a smallint; pgmeridian control install makes it so");
        return None;
    };
    if let Some(first) = names.ids.iter().position(|other| *other == id) {
        let first = written.rows.get(first).map_or(0..0, |places| places.id.clone());
        r.fault_in(&written.source, &places.id, format!("shard_id {id} stands twice"))
            .label("again here")
            .other(first, "first here")
            .hint("shard_id is the primary key of shard_config; pgmeridian control install makes it so");
        return None;
    }
    Some(id)
}

/// A shard of a row and what the file adds; `None` only when a fault was added.
fn shard(
    r: &mut Reader<'_>,
    written: &Written,
    places: &Places,
    row: &ShardRow,
    id: Option<i16>,
    own: Option<&Inline>,
) -> Option<Shard> {
    let who = id.map_or_else(String::new, |id| format!("shard_id {id}: "));
    let source = &written.source;
    let region = row.region_code.as_deref().map(str::trim_end).filter(|region| !region.is_empty());
    if let Some(region) = region.filter(|region| region.chars().count() > REGION_CHARS_MAX) {
        let message = format!("{who}a region has 1 to {REGION_CHARS_MAX} characters, not {region}");
        r.fault_in(source, &places.region, message)
            .hint("ISO 3166-1 alpha-3 codes are recommended: USA, DEU, FRA");
    }
    for (name, value, place) in [
        ("is_primary", &row.is_primary, &places.primary),
        ("is_active", &row.is_active, &places.active),
    ] {
        if value.is_some() && truth(value.as_deref()).is_none() {
            r.fault_in(source, place, format!("{who}{name} is neither true nor false"))
                .hint("the column is a boolean; pgmeridian control install makes it so");
        }
    }
    let url = match own.filter(|own| own.has_url) {
        Some(own) => own.url.clone(),
        None => connection(r, written, places, row, &who),
    };
    let id = id?;
    let name = own.and_then(|own| own.name.as_ref()).map(|name| name.value.clone());
    let name = name.unwrap_or_else(|| format!("shard{id}"));
    Some(Shard {
        id,
        ring_name: own.and_then(|own| own.ring_name.clone()).unwrap_or_else(|| name.clone()),
        name,
        region: region.map(str::to_owned),
        datacenter: row.datacenter.clone(),
        url: url?,
        replicas: own.map(|own| own.replicas.clone()).unwrap_or_default(),
        active: truth(row.is_active.as_deref()).unwrap_or(true),
    })
}

fn truth(text: Option<&str>) -> Option<bool> {
    match text?.trim() {
        "true" | "t" => Some(true),
        "false" | "f" => Some(false),
        _ => None,
    }
}

/// The row's own `connection_string`. What is wrong with it is told without a word of it.
fn connection(
    r: &mut Reader<'_>,
    written: &Written,
    places: &Places,
    row: &ShardRow,
    who: &str,
) -> Option<ConnectionTarget> {
    let (source, place) = (&written.source, &places.connection);
    let text = match row.connection_string.url() {
        Ok(text) => text,
        Err(why) => {
            r.fault_in(source, place, format!("{who}{why}"))
                .hint("write postgresql://user:password@host:port/dbname, ${VAR} or file:/path");
            return None;
        }
    };
    let text = match expand(text, r.env()) {
        Ok(text) => text,
        Err(why) => {
            r.fault_in(source, place, format!("{who}{why}"))
                .hint("write ${NAME}, and set NAME in the environment of every proxy");
            return None;
        }
    };
    match ConnectionTarget::parse(&text, r.env()) {
        Ok(target) => Some(target),
        Err(bad) => {
            r.fault_in(source, place, format!("{who}connection_string: {}", bad.message))
                .hint(bad.hint.unwrap_or_else(|| URL_FORM.to_owned()));
            None
        }
    }
}

/// Replaces `${VAR}`; what stands there otherwise may be a secret and is not told.
fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (name, tail) =
            after.split_once('}').ok_or("connection_string has \"${\" without a closing brace")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("connection_string has a \"${…}\" that names no variable".to_owned());
        }
        let value = env(name).ok_or_else(|| format!("environment variable {name} is not set"))?;
        expanded.push_str(&value);
        rest = tail;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn check_rows(r: &mut Reader<'_>, tables: &Tables, written: &Written, shards: &[Option<Shard>]) {
    if tables.shards.is_empty() {
        r.fault_in(&written.source, &(0..0), "shard_config has no rows")
            .hint("INSERT INTO shard_config (shard_id, region_code, datacenter, connection_string, min_tenant_id, max_tenant_id) VALUES …");
    }
    if tables.shards.len() > SHARDS_MAX {
        r.fault_in(
            &written.source,
            &(0..0),
            format!("shard_config has more than {SHARDS_MAX} rows"),
        )
        .hint("a map has so many shards at most; Snowflake ids have ten bits for them");
    }
    for (at, shard) in shards.iter().enumerate() {
        let Some(shard) = shard else { continue };
        let same = |other: &Option<Shard>| {
            other.as_ref().is_some_and(|other| other.url.is_same_database(&shard.url))
        };
        let Some(first) = shards.iter().take(at).position(same) else { continue };
        let place = |at: usize| written.rows.get(at).map_or(0..0, |row| row.connection.clone());
        let message = format!("shard_id {}: another shard has the same database", shard.id);
        r.fault_in(&written.source, &place(at), message)
            .label("again here")
            .other(place(first), "first here")
            .hint("its rows would be read twice");
    }
}

/// `min_tenant_id` to `max_tenant_id`, both included; NULL is an open end.
fn ranges(r: &mut Reader<'_>, tables: &Tables, written: &Written, ty: KeyType) -> Option<Ranges> {
    let mut entries = Vec::new();
    let mut complete = true;
    let mut of_rows = Vec::new();
    for ((at, row), places) in (0..).zip(&tables.shards).zip(&written.rows) {
        let who = row.shard_id.as_deref().unwrap_or("NULL");
        let mut faulty = false;
        let mut end = |name: &str, text: Option<&String>, place: &Range<usize>| {
            let text = text?;
            match KeyValue::from_text(ty, text) {
                Ok(value) => Some(value.into_owned()),
                Err(error) => {
                    faulty = true;
                    let message = format!("shard_id {who}: {name}: {}", error.message);
                    r.fault_in(&written.source, place, message)
                        .hint("it is a value of the key, or NULL for an open end");
                    None
                }
            }
        };
        let from = end("min_tenant_id", row.min_tenant_id.as_ref(), &places.min);
        let to = end("max_tenant_id", row.max_tenant_id.as_ref(), &places.max);
        complete &= !faulty;
        if faulty {
            continue;
        }
        if let (Some(from), Some(to)) = (&from, &to)
            && from > to
        {
            complete = false;
            let message =
                format!("shard_id {who}: min_tenant_id {from} comes after max_tenant_id {to}");
            r.fault_in(&written.source, &(places.min.start..places.max.end), message)
                .hint("exchange the two: the range goes from one to the other, both included");
            continue;
        }
        entries.push(RangeEntry { from, to, shard: ShardId(at) });
        of_rows.push(usize::from(at));
    }
    match Ranges::new(entries) {
        Ok(ranges) => complete.then_some(ranges),
        Err((first, second)) => {
            let row = |at: usize| of_rows.get(at).and_then(|row| written.rows.get(*row));
            let place = |at| row(at).map_or(0..0, |row| row.min.start..row.max.end);
            let id = |at: usize| {
                let row = of_rows.get(at).and_then(|row| tables.shards.get(*row));
                row.and_then(|row| row.shard_id.clone()).unwrap_or_default()
            };
            let message =
                format!("the ranges of shard_id {} and {} overlap", id(first), id(second));
            r.fault_in(&written.source, &place(second), message)
                .label("this one")
                .other(place(first), "and this one")
                .hint("min_tenant_id and max_tenant_id are both included");
            None
        }
    }
}

/// Rows of `tenant_shard_map` that can't be read, or name a shard that isn't there.
fn check_tenants(r: &mut Reader<'_>, tables: &Tables, names: &Names) {
    let mut lines = String::new();
    let mut faults: Vec<(Range<usize>, String, Option<String>)> = Vec::new();
    let put = |lines: &mut String, tenant: &str, shard: &str| {
        let start = lines.len();
        let clean = |text: &str| text.replace(|c: char| c.is_control(), "?");
        // Writing to a String can't fail.
        let _ = write!(lines, "tenant_id = {}  shard_id = {}", clean(tenant), clean(shard));
        let place = start..lines.len();
        lines.push('\n');
        place
    };
    for row in &tables.odd {
        let tenant = row.tenant_id.as_deref().unwrap_or("NULL");
        let shard = row.shard_id.as_deref().unwrap_or("NULL");
        let hint = "correct the row, or delete it: what is not listed goes where otherwise says";
        faults.push((put(&mut lines, tenant, shard), row.problem.clone(), Some(hint.to_owned())));
    }
    if tables.odd_more > 0 {
        let message = format!("{} more rows of tenant_shard_map can't be used", tables.odd_more);
        // Beside the ones that are shown.
        let place = put(&mut lines, "…", "…");
        faults.push((
            place,
            message,
            Some("SELECT those that have a NULL, or are of another type".to_owned()),
        ));
    }
    for (home, count) in tables.entries.homes().filter(|(home, _)| !names.ids.contains(home)) {
        let example = tables.entries.rows().find(|(_, of)| *of == home).map(|(key, _)| key);
        let example = example.map_or_else(String::new, |key| key.to_string());
        let place = put(&mut lines, &example, &home.to_string());
        let more = match count {
            1 => String::new(),
            count => format!(", and {} more tenants", count - 1),
        };
        let message = format!("tenant {example}{more}: shard_config has no shard_id {home}");
        let hint = "insert the shard into shard_config first, or correct shard_id";
        faults.push((place, message, Some(hint.to_owned())));
    }
    let name = format!("tenant_shard_map in {}", tables.database);
    let source = Arc::new(Source::of_table(name, &lines, 2));
    for (place, message, hint) in faults {
        let fault = r.fault_in(&source, &place, message);
        if let Some(hint) = hint {
            fault.hint(hint);
        }
    }
}
