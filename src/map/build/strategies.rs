//! The sub-tables of a key: `hash`, `range`, `geo`, `directory`, `database`, `place`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::Names;
use super::shards::region_label;
use crate::datum::{KeyType, KeyValue};
use crate::map::ShardId;
use crate::map::entries::Entries;
use crate::map::geo::{Geo, Region};
use crate::map::geoip::is_country;
use crate::map::hash::{Hash, SLOTS, VIRTUAL_NODES_DEFAULT, VIRTUAL_NODES_MAX};
use crate::map::model::{NewKeyPlaces, PlaceNew};
use crate::map::range::{RangeEntry, Ranges};
use crate::map::reader::{At, Fields, Node, Reader};

/// The algorithms' words.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Algorithm {
    Modulo,
    Md5,
    Consistent,
    Postgres,
    Slots,
}

const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("modulo", Algorithm::Modulo),
    ("md5", Algorithm::Md5),
    ("consistent", Algorithm::Consistent),
    ("postgres", Algorithm::Postgres),
    ("slots", Algorithm::Slots),
];

/// The words of `type`.
const TYPES: [(&str, KeyType); 6] = [
    ("bigint", KeyType::BigInt),
    ("integer", KeyType::Integer),
    ("smallint", KeyType::SmallInt),
    ("text", KeyType::Text),
    ("varchar", KeyType::Varchar),
    ("uuid", KeyType::Uuid),
];

const ALIASES: [(&str, KeyType); 4] = [
    ("int8", KeyType::BigInt),
    ("int4", KeyType::Integer),
    ("int", KeyType::Integer),
    ("int2", KeyType::SmallInt),
];

/// The type that a word means.
pub(super) fn key_type_of(word: &str) -> Option<KeyType> {
    let lower = word.to_lowercase();
    TYPES.iter().chain(&ALIASES).find(|(known, _)| *known == lower).map(|(_, ty)| *ty)
}

/// A key's type.
pub(super) fn key_type(r: &mut Reader<'_>, node: &Node<'_>) -> Option<KeyType> {
    let word = node.as_string(r);
    let lower = word.as_ref().map(|w| w.value.to_lowercase()).unwrap_or_default();
    let unsafe_equality =
        lower.starts_with("char") || lower.starts_with("bpchar") || lower == "citext";
    if unsafe_equality && let Some(word) = &word {
        r.fault(&word.span, format!("a key can't be of type {}", word.value))
            .label("equal values may differ in bytes")
            .hint("use text or varchar for the column");
        return None;
    }
    if let Some((_, ty)) = ALIASES.iter().find(|(alias, _)| *alias == lower) {
        return Some(*ty);
    }
    node.choice(r, &TYPES)
}

/// A list of shards: not empty, none twice.
pub(super) fn shard_list(
    r: &mut Reader<'_>,
    names: &Names,
    node: &Node<'_>,
) -> Option<Vec<ShardId>> {
    let listed = node.strings(r)?;
    if listed.is_empty() {
        r.fault(&node.span(), "the list of shards is empty").hint("name one at least");
        return None;
    }
    let mut shards = Vec::with_capacity(listed.len());
    let mut complete = true;
    for (at, name) in listed.iter().enumerate() {
        match names.shard(r, name) {
            // By name: which shard that is may be written in the control database.
            Some(_) if listed.iter().take(at).any(|first| first.value == name.value) => {
                r.fault(&name.span, format!("shard \"{}\" is listed twice", name.value))
                    .hint("name each once; slots give one more than another");
                complete = false;
            }
            Some(shard) => shards.push(shard),
            None => complete = false,
        }
    }
    warn_inactive(r, names, &listed);
    complete.then_some(shards)
}

/// A computed placement goes on using a shard that takes no new keys.
fn warn_inactive(r: &mut Reader<'_>, names: &Names, listed: &[At<String>]) {
    for name in listed {
        let at = names.shards.iter().position(|shard| *shard == name.value);
        if at.and_then(|at| names.active.get(at)) == Some(&false) {
            r.warn(&name.span, format!("shard \"{}\" is not active", name.value))
                .label("computed placements go on using it")
                .hint("active = false only keeps new recorded keys away");
        }
    }
}

/// A key's value, as an integer or a string of the file.
fn key_value(
    r: &mut Reader<'_>,
    text: &At<String>,
    ty: Option<KeyType>,
) -> Option<KeyValue<'static>> {
    let ty = ty?;
    match KeyValue::from_text(ty, &text.value) {
        Ok(value) => Some(value.into_owned()),
        Err(error) => {
            r.fault(&text.span, error.message)
                .hint(format!("keys are written as PostgreSQL writes a {ty}"));
            None
        }
    }
}

/// What an algorithm can't place.
fn check_algorithm(r: &mut Reader<'_>, node: &Node<'_>, algorithm: Algorithm, ty: Option<KeyType>) {
    if algorithm == Algorithm::Modulo && ty.is_some_and(|ty| !ty.is_integer()) {
        r.fault(&node.span(), "algorithm modulo needs an integer key")
            .hint("use postgres, md5, consistent or slots");
    }
}

/// `prefix` and `virtual_nodes`, where the algorithm has a use for them.
fn hash_options(
    r: &mut Reader<'_>,
    fields: &mut Fields<'_>,
    algorithm: Option<Algorithm>,
) -> (String, u32) {
    let nodes = fields.take("virtual_nodes");
    let virtual_nodes = nodes.as_ref().and_then(|n| n.integer(r, 1..=VIRTUAL_NODES_MAX.into()));
    let prefix = fields.take("prefix");
    let text = prefix.as_ref().and_then(|node| node.string(r)).map(|p| p.value);
    let takes_prefix = matches!(algorithm, None | Some(Algorithm::Md5 | Algorithm::Consistent));
    if let Some(node) =
        prefix.filter(|_| !takes_prefix && text.as_ref().is_some_and(|t| !t.is_empty()))
    {
        r.warn(&node.key_span, "prefix is for md5 and consistent only");
    }
    let takes_nodes = matches!(algorithm, None | Some(Algorithm::Consistent));
    if let Some(node) = nodes.filter(|_| !takes_nodes) {
        r.warn(&node.key_span, "virtual_nodes is for consistent only");
    }
    let virtual_nodes = virtual_nodes.and_then(|n| u32::try_from(n).ok());
    (text.unwrap_or_default(), virtual_nodes.unwrap_or(VIRTUAL_NODES_DEFAULT))
}

fn make_hash(
    names: &Names,
    algorithm: Algorithm,
    shards: Vec<ShardId>,
    (prefix, virtual_nodes): (String, u32),
) -> Option<Hash> {
    match algorithm {
        Algorithm::Modulo => Some(Hash::Modulo(shards)),
        Algorithm::Md5 => Some(Hash::Md5 { prefix, shards }),
        Algorithm::Postgres => Some(Hash::Postgres(shards)),
        Algorithm::Consistent => {
            let ring_name = |shard: &ShardId| names.rings.get(usize::from(shard.0));
            let points = shards.iter().filter_map(|s| Some((*s, ring_name(s)?.as_str())));
            Some(Hash::consistent(prefix, virtual_nodes, points))
        }
        Algorithm::Slots => None,
    }
}

/// `[keys.x.hash]`.
pub(super) fn hash(
    r: &mut Reader<'_>,
    names: &Names,
    mut fields: Fields<'_>,
    ty: Option<KeyType>,
) -> Option<Hash> {
    let node = fields.require("algorithm");
    let algorithm = node.as_ref().and_then(|node| node.choice(r, &ALGORITHMS));
    if let (Some(node), Some(algorithm)) = (&node, algorithm) {
        check_algorithm(r, node, algorithm, ty);
    }
    let options = hash_options(r, &mut fields, algorithm);
    let list = fields.take("shards");
    let shards = list.as_ref().and_then(|node| shard_list(r, names, node));
    let slot_table = fields.take("slots");
    let hash = match (algorithm, &slot_table) {
        (Some(Algorithm::Slots), Some(node)) => slots(r, names, node).map(Hash::Slots),
        (Some(Algorithm::Slots), None) => {
            fields.require("slots");
            None
        }
        (Some(algorithm), _) => {
            if list.is_none() {
                fields.require("shards");
            }
            shards.and_then(|shards| make_hash(names, algorithm, shards, options))
        }
        (None, _) => None,
    };
    if let Some(node) = slot_table.filter(|_| !matches!(algorithm, None | Some(Algorithm::Slots))) {
        r.warn(&node.key_span, "slots is for algorithm slots only");
    }
    fields.finish(r);
    hash
}

/// `{ "0-5460" = "usa-east", … }`: every slot exactly once.
fn slots(r: &mut Reader<'_>, names: &Names, node: &Node<'_>) -> Option<Box<[ShardId]>> {
    let mut table: Vec<Option<ShardId>> = vec![None; usize::from(SLOTS)];
    let faults = r.faults.len();
    let mut listed = Vec::new();
    for entry in node.fields(r)?.entries() {
        let shard = entry.string(r).and_then(|name| {
            let shard = names.shard(r, &name);
            listed.push(name);
            shard
        });
        let (first, last) = entry.name.split_once('-').unwrap_or((&entry.name, &entry.name));
        let (first, last) = (first.trim().parse::<u16>(), last.trim().parse::<u16>());
        let (Ok(first), Ok(last)) = (first, last) else {
            r.fault(&entry.key_span, format!("\"{}\" is not a range of slots", entry.name))
                .hint("write \"0-5460\", both ends included, or one number");
            continue;
        };
        if first > last || last >= SLOTS {
            r.fault(
                &entry.key_span,
                format!("slots are numbered from 0 to {}, ascending", SLOTS - 1),
            )
            .hint("write \"0-5460\", both ends included");
            continue;
        }
        let Some(range) = table.get_mut(usize::from(first)..=usize::from(last)) else { continue };
        if range.iter().any(Option::is_some) {
            r.fault(&entry.key_span, "some of these slots were given out before")
                .hint("both ends of a range are included: the next one begins one higher");
            continue;
        }
        range.fill(Some(shard.unwrap_or(ShardId(0))));
    }
    if r.faults.len() > faults {
        return None;
    }
    warn_inactive(r, names, &listed);
    if let Some(missing) = table.iter().position(Option::is_none) {
        let length = table.iter().skip(missing).take_while(|slot| slot.is_none()).count();
        let missing = format!("{missing}-{}", missing + length - 1);
        r.fault(&node.span(), format!("slots {missing} have no shard"))
            .hint(format!("add \"{missing}\" = \"…\""));
        return None;
    }
    table.into_iter().collect::<Option<Vec<_>>>().map(Vec::into_boxed_slice)
}

/// `[keys.x.range]`.
pub(super) fn range(
    r: &mut Reader<'_>,
    names: &Names,
    mut fields: Fields<'_>,
    ty: Option<KeyType>,
) -> Option<Ranges> {
    let node = fields.require("ranges");
    fields.finish(r);
    let node = node?;
    let elements = node.array(r)?;
    if elements.is_empty() {
        r.fault(&node.span(), "the list of ranges is empty")
            .hint("write { from = 1, to = 1000, shard = \"…\" }; a missing end is open");
        return None;
    }
    let mut entries = Vec::new();
    let mut spans = Vec::new();
    for element in &elements {
        if let Some(entry) = range_entry(r, names, element, ty) {
            entries.push(entry);
            spans.push(element.span());
        }
    }
    let complete = entries.len() == elements.len();
    match Ranges::new(entries) {
        Ok(ranges) => complete.then_some(ranges),
        Err((first, second)) => {
            let (Some(first), Some(second)) = (spans.get(first), spans.get(second)) else {
                return None;
            };
            r.fault(second, "two ranges overlap")
                .label("this one")
                .other(first.clone(), "and this one")
                .hint("both ends of a range are included");
            None
        }
    }
}

fn range_entry(
    r: &mut Reader<'_>,
    names: &Names,
    node: &Node<'_>,
    ty: Option<KeyType>,
) -> Option<RangeEntry> {
    let mut fields = node.fields(r)?;
    // An end that is missing is open; one that is faulty is not.
    let mut faulty = false;
    let mut end = |r: &mut Reader<'_>, node: Option<Node<'_>>| {
        let node = node?;
        let value = node.scalar(r).and_then(|text| key_value(r, &text, ty));
        faulty |= value.is_none();
        value
    };
    let from = fields.take("from");
    let from = end(r, from);
    let to = fields.take("to");
    let to = end(r, to);
    let shard = fields.require("shard").and_then(|node| node.string(r));
    let id = shard.as_ref().and_then(|name| names.shard(r, name));
    if let Some(name) = shard {
        warn_inactive(r, names, &[name]);
    }
    fields.finish(r);
    if let (Some(from), Some(to)) = (&from, &to)
        && from > to
    {
        r.fault(&node.span(), format!("this range is empty: {from} comes after {to}"))
            .hint("exchange from and to: both are included");
        return None;
    }
    if faulty { None } else { Some(RangeEntry { from, to, shard: id? }) }
}

/// `regions = { USA = ["usa-east", "usa-west"], … }`, in the order of the file.
fn regions<'t>(
    r: &mut Reader<'_>,
    names: &Names,
    fields: &mut Fields<'t>,
) -> Option<Vec<(Node<'t>, Vec<ShardId>)>> {
    let entries = fields.require("regions")?.fields(r)?.entries();
    let count = entries.len();
    let mut regions = Vec::with_capacity(count);
    for node in entries {
        region_label(r, &At { value: node.name.clone(), span: node.key_span.clone() });
        if let Some(shards) = shard_list(r, names, &node) {
            regions.push((node, shards));
        }
    }
    (regions.len() == count).then_some(regions)
}

/// The second part of a geo key.
pub(super) struct Within {
    pub(super) column: String,
    pub(super) ty: KeyType,
}

/// `[keys.x.geo]`.
pub(super) fn geo(
    r: &mut Reader<'_>,
    names: &Names,
    mut fields: Fields<'_>,
) -> Option<(Geo, Option<Within>)> {
    let listed = regions(r, names, &mut fields);
    let within_node = fields.take("within");
    let within = within_node.as_ref().map(|node| node.fields(r).and_then(|f| within(r, f)));
    let default = match fields.string(r, "default") {
        Some(name) if name.value == "refuse" => Some(None),
        Some(name) => names.shard(r, &name).map(Some),
        None => Some(None),
    };
    fields.finish(r);
    let mut built = FxHashMap::default();
    for (node, shards) in listed? {
        let region = match (&within, shards.as_slice()) {
            (_, [only]) => Region::One(*only),
            (Some(Some((_, algorithm, options))), _) => {
                Region::Within(make_hash(names, *algorithm, shards, options.clone())?)
            }
            // The fault is about `within` itself.
            (Some(None), _) => continue,
            (None, _) => {
                r.fault(&node.span(), format!("region {} has several shards", node.name))
                    .label("which of them holds a row?")
                    .hint("add within = { column = …, type = …, algorithm = … }, a second part of the key");
                continue;
            }
        };
        built.insert(node.name.clone(), region);
    }
    let within = match within {
        Some(None) => return None,
        Some(Some((within, _, _))) => Some(within),
        None => None,
    };
    Some((Geo { regions: built, default: default? }, within))
}

type WithinParts = (Within, Algorithm, (String, u32));

fn within(r: &mut Reader<'_>, mut fields: Fields<'_>) -> Option<WithinParts> {
    let column = fields.require("column").and_then(|node| node.string(r));
    let ty = fields.require("type").and_then(|node| key_type(r, &node));
    let node = fields.require("algorithm");
    let algorithm = node.as_ref().and_then(|node| node.choice(r, &ALGORITHMS));
    if let (Some(node), Some(algorithm)) = (&node, algorithm) {
        check_algorithm(r, node, algorithm, ty);
        if algorithm == Algorithm::Slots {
            r.fault(&node.span(), "algorithm slots can't be used within a region")
                .hint("use postgres, which hashes the same way");
        }
    }
    let options = hash_options(r, &mut fields, algorithm);
    fields.finish(r);
    let algorithm = algorithm.filter(|a| *a != Algorithm::Slots)?;
    Some((Within { column: column?.value, ty: ty? }, algorithm, options))
}

/// What `otherwise` says.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum OtherwiseWord {
    Hash,
    Range,
    Refuse,
}

/// `[keys.x.directory]`.
pub(super) struct DirectoryParts {
    pub(super) entries: Entries,
    pub(super) entries_span: Option<std::ops::Range<usize>>,
    pub(super) otherwise: OtherwiseWord,
    pub(super) otherwise_span: std::ops::Range<usize>,
    pub(super) place_new: PlaceNew,
}

/// `[keys.x.directory]`.
pub(super) fn directory(
    r: &mut Reader<'_>,
    names: &Names,
    mut fields: Fields<'_>,
    ty: Option<KeyType>,
    has_control: bool,
) -> Option<DirectoryParts> {
    let faults = r.faults.len();
    let mut entries = Entries::new(ty.unwrap_or(KeyType::Text));
    let nodes = fields.entries_of(r, "entries");
    let entries_span = nodes.first().map(|node| node.key_span.clone());
    for node in nodes {
        let text = At { value: node.name.clone(), span: node.key_span.clone() };
        let key = key_value(r, &text, ty);
        let shard = node.string(r).and_then(|name| names.shard(r, &name));
        let home = shard.and_then(|shard| names.ids.get(usize::from(shard.0)));
        let (Some(key), Some(home)) = (key, home) else { continue };
        if entries.put(&key, *home).is_some() {
            r.fault(&node.key_span, format!("key {} is listed twice", node.name))
                .hint("leave one of the two; 7 and 07 are one number");
        }
    }
    let words = [
        ("hash", OtherwiseWord::Hash),
        ("range", OtherwiseWord::Range),
        ("refuse", OtherwiseWord::Refuse),
    ];
    let node = fields.take("otherwise");
    let otherwise_span = node.as_ref().map_or(fields.span.clone(), Node::span);
    let otherwise = node.map_or(Some(OtherwiseWord::Refuse), |node| node.choice(r, &words));
    let words = [
        ("refuse", PlaceNew::Refuse),
        ("geo", PlaceNew::Geo),
        ("hash", PlaceNew::Hash),
        ("least-keys", PlaceNew::LeastKeys),
    ];
    let node = fields.take("place_new");
    let place_new = node.as_ref().and_then(|node| node.choice(r, &words)).unwrap_or_default();
    if let Some(node) = node.filter(|_| place_new != PlaceNew::Refuse && !has_control) {
        r.fault(
            &node.span(),
            "place_new records new keys, and there is no [control] to record them in",
        )
        .hint("add a [control] section, or write place_new = \"refuse\"");
    }
    fields.finish(r);
    let otherwise = otherwise?;
    (r.faults.len() == faults).then_some(DirectoryParts {
        entries,
        entries_span,
        otherwise,
        otherwise_span,
        place_new,
    })
}

/// `[keys.x.database]`.
pub(super) struct DatabaseParts {
    pub(super) prefix: At<String>,
    pub(super) by_directory: bool,
    pub(super) auto_create: bool,
    pub(super) template: String,
}

/// What databases are made from when the map doesn't say: nobody is connected to it, which a template of
/// CREATE DATABASE demands.
const TEMPLATE_DEFAULT: &str = "template1";

/// `[keys.x.database]`.
pub(super) fn database(
    r: &mut Reader<'_>,
    mut fields: Fields<'_>,
    ty: Option<KeyType>,
) -> Option<DatabaseParts> {
    let prefix = fields.string(r, "prefix");
    let prefix = prefix.unwrap_or(At { value: String::new(), span: fields.span.clone() });
    let faults = r.faults.len();
    if prefix.value.is_empty() && matches!(ty, Some(KeyType::Text | KeyType::Varchar)) {
        r.fault(&prefix.span, "a key that is text needs a prefix for its databases")
            .label("any database of the servers could be a key's")
            .hint("write prefix = \"tenant_\", say");
    }
    let words = [("hash", false), ("directory", true)];
    let by_directory = fields.choice(r, "placement", &words).unwrap_or_default();
    let auto_create = fields.boolean(r, "auto_create").unwrap_or_default();
    let template = fields.string(r, "template");
    if let Some(template) = template.as_ref().filter(|_| !auto_create) {
        r.warn(&template.span, "template is for auto_create = true only");
    }
    fields.finish(r);
    let template = template.map_or_else(|| TEMPLATE_DEFAULT.to_owned(), |template| template.value);
    let faultless = r.faults.len() == faults;
    faultless.then_some(DatabaseParts { prefix, by_directory, auto_create, template })
}

/// `[keys.x.place]`.
pub(super) fn new_key_places(
    r: &mut Reader<'_>,
    names: &Names,
    mut fields: Fields<'_>,
) -> Option<NewKeyPlaces> {
    let column = fields.string(r, "column").map(|c| c.value);
    let listed = regions(r, names, &mut fields);
    let known: Option<BTreeMap<String, Vec<ShardId>>> =
        listed.map(|list| list.into_iter().map(|(node, shards)| (node.name, shards)).collect());
    let mut networks = Vec::new();
    for node in fields.entries_of(r, "networks") {
        if !is_network(&node.name) {
            r.fault(&node.key_span, format!("\"{}\" is not a network", node.name))
                .hint("write \"10.1.0.0/16\" or \"2001:db8::/32\"");
        }
        if let Some(region) = node.string(r) {
            known_region(r, known.as_ref(), &region);
            networks.push((node.name, region.value));
        }
    }
    let geoip = fields.string(r, "geoip").and_then(|name| {
        let read = r.geoip(&name)?;
        if let Some(known) = known.as_ref().filter(|known| !known.keys().any(|r| is_country(r))) {
            let regions: Vec<&str> = known.keys().map(String::as_str).collect();
            r.warn(&name.span, "no region is a country that a GeoIP file could tell")
                .label(format!("the regions: {}", regions.join(", ")))
                .hint("call regions by the ISO 3166-1 codes of countries: USA, DEU or US, DE");
        }
        Some(read)
    });
    let default = fields.string(r, "default");
    if let Some(region) = &default {
        known_region(r, known.as_ref(), region);
    }
    fields.finish(r);
    Some(NewKeyPlaces {
        column,
        regions: known?,
        networks,
        geoip,
        default: default.map(|d| d.value),
    })
}

fn known_region(
    r: &mut Reader<'_>,
    known: Option<&BTreeMap<String, Vec<ShardId>>>,
    region: &At<String>,
) {
    if let Some(known) = known.filter(|known| !known.contains_key(&region.value)) {
        r.unknown("region", region, known.keys().map(String::as_str));
    }
}

/// An address and a length of its prefix.
fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let bits = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= bits)
}
