//! `[[shards]]`.

use std::ops::Range;

use super::Names;
use super::control::inline_shards;
use crate::map::SHARDS_MAX;
use crate::map::model::Shard;
use crate::map::reader::{At, Fields, Node, Reader};
use crate::map::target::ConnectionTarget;

/// A region's label has at most so many characters: it becomes part of metric labels and of
/// `shard_config`.
pub(super) const REGION_CHARS_MAX: usize = 16;

/// Reads the shards. A faulty one is `None`, but its name is known.
pub(super) fn shards(
    r: &mut Reader<'_>,
    listed: Vec<Fields<'_>>,
    has_control: bool,
) -> (Vec<Option<Shard>>, Names) {
    let mut names = Names::default();
    let mut shards = Vec::new();
    let mut seen = Seen::default();
    // Without an answer from the control database and without a stand-in, no name can be told right or wrong.
    let own = ["url", "region", "datacenter", "active"];
    let adds = |fields: &Fields<'_>| !own.iter().any(|name| fields.has(name));
    if has_control && (listed.is_empty() || listed.iter().any(adds)) {
        inline_shards(r, None, listed);
        return (shards, Names { open: true, ..names });
    }
    for fields in listed {
        shards.push(shard(r, fields, shards.len() + 1, &mut names, &mut seen));
    }
    if shards.is_empty() {
        r.fault(&(0..0), "the map has no shards")
            .hint("add a [[shards]] section with id, name and url");
    }
    if shards.len() > SHARDS_MAX {
        r.fault(&(0..0), format!("more than {SHARDS_MAX} shards"))
            .hint("Snowflake ids have ten bits for them");
    }
    (shards, names)
}

/// What must not stand twice.
#[derive(Default)]
struct Seen {
    names: Vec<At<String>>,
    ring_names: Vec<At<String>>,
    ids: Vec<At<String>>,
    urls: Vec<At<ConnectionTarget>>,
}

/// Two shards in one database: each row would be read twice.
fn one_database(r: &mut Reader<'_>, seen: &mut Seen, span: Range<usize>, url: &ConnectionTarget) {
    let same = |first: &&At<ConnectionTarget>| first.value.is_same_database(url);
    if let Some(first) = seen.urls.iter().find(same) {
        r.fault(&span, "another shard has the same database")
            .label("again here")
            .other(first.span.clone(), "first here")
            .hint("its rows would be read twice");
    }
    seen.urls.push(At { value: url.clone(), span });
}

fn unique(r: &mut Reader<'_>, seen: &mut Vec<At<String>>, what: &str, value: At<String>) -> bool {
    if let Some(first) = seen.iter().find(|first| first.value == value.value) {
        r.fault(&value.span, format!("two shards have the {what} \"{}\"", value.value))
            .label("again here")
            .other(first.span.clone(), "first here");
        return false;
    }
    seen.push(value);
    true
}

fn shard(
    r: &mut Reader<'_>,
    mut fields: Fields<'_>,
    number: usize,
    names: &mut Names,
    seen: &mut Seen,
) -> Option<Shard> {
    let name = fields.require("name").and_then(|node| node.string(r));
    // A name that stands twice is most likely the wrong one of the two: references to the right one
    // are no faults of their own.
    let mut known_name = String::new();
    if let Some(name) = &name {
        if name.value.is_empty() || name.value == "*" || name.value == "refuse" {
            let hint = match name.value.as_str() {
                "" => "give it a name, the region's or the server's say",
                _ => "\"*\" stands for all shards and \"refuse\" for none: take another name",
            };
            r.fault(&name.span, format!("a shard can't be called \"{}\"", name.value)).hint(hint);
        }
        if unique(r, &mut seen.names, "name", name.clone()) {
            known_name.clone_from(&name.value);
        }
    }
    let id_node = fields.take("id");
    let id = match &id_node {
        // One number is left over to say that there is none (`entries`).
        Some(node) => node.integer(r, (i16::MIN + 1).into()..=i16::MAX.into()),
        None => i64::try_from(number).ok(),
    };
    if let Some(id) = id {
        let span = id_node.map_or(fields.span.clone(), |node| node.span());
        unique(r, &mut seen.ids, "id", At { value: id.to_string(), span });
    }
    let explicit_ring = fields.string(r, "ring_name");
    if let Some(ring_name) = explicit_ring.clone().or_else(|| name.clone()) {
        names.rings.push(ring_name.value.clone());
        // Names that stand twice have had their fault.
        let same_name = explicit_ring.is_none()
            && seen.ring_names.iter().any(|ring| ring.value == ring_name.value)
            && seen.names.iter().all(|name| name.span != ring_name.span);
        if !same_name {
            unique(r, &mut seen.ring_names, "ring_name", ring_name);
        }
    } else {
        names.rings.push(String::new());
    }
    let region = fields.string(r, "region");
    if let Some(region) = &region {
        region_label(r, region);
    }
    let datacenter = fields.string(r, "datacenter").map(|d| d.value);
    let active = fields.boolean(r, "active").unwrap_or(true);
    let url_node = fields.require("url");
    let url = url_node.as_ref().and_then(|node| url(r, node));
    if let (Some(url), Some(node)) = (&url, &url_node) {
        one_database(r, seen, node.span(), url);
    }
    let replica_nodes = fields.take("replicas").and_then(|node| node.array(r)).unwrap_or_default();
    let replicas = replica_nodes.iter().filter_map(|node| self::url(r, node)).collect();
    fields.finish(r);

    names.shards.push(known_name);
    names.active.push(active);
    names.ids.push(id.and_then(|id| i16::try_from(id).ok()).unwrap_or_default());
    let name = name?.value;
    Some(Shard {
        id: i16::try_from(id?).ok()?,
        ring_name: explicit_ring.map_or_else(|| name.clone(), |ring| ring.value),
        name,
        region: region.map(|r| r.value),
        datacenter,
        url: url?,
        replicas,
        active,
    })
}

/// What a URL looks like, where nothing better can be said of a faulty one.
pub(super) const URL_FORM: &str = "a URL is postgresql://user:password@host:port/dbname";

/// A label of a region.
pub(super) fn region_label(r: &mut Reader<'_>, region: &At<String>) {
    if region.value.is_empty() || region.value.chars().count() > REGION_CHARS_MAX {
        r.fault(&region.span, format!("a region has 1 to {REGION_CHARS_MAX} characters"))
            .hint("ISO 3166-1 alpha-3 codes are recommended: USA, DEU, FRA");
    }
}

/// A connection URL.
pub(super) fn url(r: &mut Reader<'_>, node: &Node<'_>) -> Option<ConnectionTarget> {
    let text = node.string(r)?;
    match ConnectionTarget::parse(&text.value, r.env()) {
        Ok(target) => Some(target),
        Err(bad) => {
            r.fault(&text.span, bad.message).hint(bad.hint.unwrap_or_else(|| URL_FORM.to_owned()));
            None
        }
    }
}
