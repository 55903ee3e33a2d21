//! The demo's shard maps: one per chapter of the tour, over whatever clusters were started; and a map
//! from a file, with its shards' addresses replaced by those of the clusters.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::DemoError;
use super::cluster::{Cluster, DATABASE};

/// A shard of the demo.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// Its name in the map.
    pub name: String,
    /// Its region's label.
    pub region: &'static str,
    /// Where it is.
    pub url: String,
}

/// The three of the contract's examples, then as many as are asked for.
pub(super) fn names(count: usize) -> Vec<(String, &'static str)> {
    let first = [("usa-east", "USA"), ("usa-west", "USA"), ("deu", "DEU")];
    let named = first.into_iter().map(|(name, region)| (name.to_owned(), region));
    named.chain((4..).map(|number| (format!("shard-{number}"), "USA"))).take(count).collect()
}

/// What all of the demo's maps begin and end with, around the key.
fn around(shards: &[Shard], key: &str) -> String {
    let home = shards.first().map_or("", |shard| shard.name.as_str());
    let mut map = format!("version = 1\ndatabase = \"{DATABASE}\"\ndefault_shard = \"{home}\"\n");
    for (index, shard) in shards.iter().enumerate() {
        let _ = write!(
            map,
            "\n[[shards]]\nid = {}\nname = \"{}\"\nregion = \"{}\"\nurl = \"{}\"\n",
            index + 1,
            shard.name,
            shard.region,
            shard.url
        );
    }
    let _ = write!(
        map,
        "\n{key}\n[tables]\nplans = \"reference\"\nglobal_settings = {{ shard = \"{home}\" }}\n"
    );
    map
}

const TENANT: &str =
    "[keys.tenant]\ncolumns = [\"tenant_id\"]\ntables = { tenants = \"id\" }\ntype = \"bigint\"\n";

fn hash_section(shards: &[Shard]) -> String {
    let names: Vec<String> = shards.iter().map(|shard| format!("\"{}\"", shard.name)).collect();
    format!("[keys.tenant.hash]\nalgorithm = \"modulo\"\nshards = [{}]\n", names.join(", "))
}

/// Tenants by remainder.
pub(super) fn hash(shards: &[Shard]) -> String {
    around(shards, &format!("{TENANT}strategy = \"hash\"\n\n{}", hash_section(shards)))
}

/// Twenty tenants to a shard, the last shard takes the rest.
pub(super) fn range(shards: &[Shard]) -> String {
    let mut key = format!("{TENANT}strategy = \"range\"\n\n[keys.tenant.range]\nranges = [\n");
    for (index, shard) in shards.iter().enumerate() {
        let from = index * 20 + 1;
        let to =
            if index + 1 == shards.len() { String::new() } else { format!(" to = {},", from + 19) };
        let _ = writeln!(key, "  {{ from = {from},{to} shard = \"{}\" }},", shard.name);
    }
    key.push_str("]\n");
    around(shards, &key)
}

/// Rows by their region: USA, CAN, and the European ones together.
pub(super) fn geo(shards: &[Shard]) -> String {
    let at = |index: usize| shards.get(index).or(shards.last()).map_or("", |shard| &shard.name);
    let (usa, can, deu) = (at(0), at(1), at(2));
    let key = format!(
        "[keys.region]\ncolumns = [\"region_code\"]\ntype = \"varchar\"\nstrategy = \"geo\"\n\n\
         [keys.region.geo]\n\
         regions = {{ USA = [\"{usa}\"], CAN = [\"{can}\"], DEU = [\"{deu}\"], FRA = [\"{deu}\"] }}\n\
         default = \"refuse\"\n"
    );
    around(shards, &key)
}

/// A few tenants by name, all others by remainder.
pub(super) fn directory(shards: &[Shard]) -> String {
    let at = |index: usize| shards.get(index).or(shards.last()).map_or("", |shard| &shard.name);
    let (west, deu) = (at(1), at(2));
    let key = format!(
        "{TENANT}strategy = \"directory\"\n\n\
         [keys.tenant.directory]\nentries = {{ 7 = \"{deu}\", 42 = \"{west}\" }}\notherwise = \"hash\"\n\n{}",
        hash_section(shards)
    );
    around(shards, &key)
}

#[derive(Deserialize)]
struct FileMap {
    shards: Vec<FileShard>,
}

#[derive(Deserialize)]
struct FileShard {
    name: String,
    url: Option<Spanned<String>>,
    replicas: Option<Spanned<Vec<String>>>,
}

/// The shards that a map file names, in its order.
pub(super) fn file_shards(path: &Path, text: &str) -> Result<Vec<String>, DemoError> {
    Ok(parse(path, text)?.shards.into_iter().map(|shard| shard.name).collect())
}

fn parse(path: &Path, text: &str) -> Result<FileMap, DemoError> {
    toml::from_str(text).map_err(|error| DemoError::Map {
        path: path.display().to_string(),
        fault: error.to_string(),
    })
}

/// A map file's text with each shard's `url` replaced by its cluster's and its replicas left out. Spliced
/// at the values' places, so that everything else stays as the file has it.
pub(super) fn relocate(path: &Path, text: &str, clusters: &[Cluster]) -> Result<String, DemoError> {
    let urls: Vec<(String, String)> =
        clusters.iter().map(|cluster| (cluster.name().to_owned(), cluster.url())).collect();
    splice_urls(path, text, &urls)
}

fn splice_urls(path: &Path, text: &str, urls: &[(String, String)]) -> Result<String, DemoError> {
    let mut edits = Vec::new();
    for shard in parse(path, text)?.shards {
        let url = urls.iter().find(|(name, _)| *name == shard.name).map(|(_, url)| url);
        match (shard.url, url) {
            (Some(old), Some(new)) => edits.push((old.span(), format!("\"{new}\""))),
            _ => {
                return Err(DemoError::Map {
                    path: path.display().to_string(),
                    fault: format!("shard \"{}\" has no url", shard.name),
                });
            }
        }
        edits.extend(shard.replicas.map(|old| (old.span(), "[]".to_owned())));
    }
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, new) in edits {
        text.replace_range(span, &new);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::ShardMap;

    fn three() -> Vec<Shard> {
        let shards = names(3).into_iter().enumerate();
        shards
            .map(|(index, (name, region))| Shard {
                name,
                region,
                url: format!("postgresql://bot:bot@127.0.0.1:{}/bots", 5501 + index),
            })
            .collect()
    }

    #[test]
    fn chapters_are_valid_maps() {
        for (number, map) in
            [hash(&three()), range(&three()), geo(&three()), directory(&three())].iter().enumerate()
        {
            let parsed = ShardMap::parse("chapter", map, &|_| None);
            let (parsed, warnings) =
                parsed.unwrap_or_else(|faults| panic!("chapter {number}: {faults}\n{map}"));
            assert_eq!(parsed.shards().len(), 3);
            assert!(warnings.is_empty(), "chapter {number}: {warnings:?}");
        }
        for count in [1, 2, 7] {
            let shards: Vec<Shard> = names(count)
                .into_iter()
                .map(|(name, region)| Shard {
                    url: format!("postgresql://bot@h/{name}"),
                    name,
                    region,
                })
                .collect();
            let parsed = ShardMap::parse("hash", &hash(&shards), &|_| None);
            assert!(parsed.is_ok(), "{count} shards: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn addresses_are_spliced() {
        let text = "version = 1 # kept\n[[shards]]\nname = \"a\"\nurl = \"old://a\" # kept too\n\
                    replicas = [\"old://b\",\n  \"old://c\"]\n[[shards]]\nurl='${A}'\nname='b'\n";
        let urls = [("a".to_owned(), "new://a".to_owned()), ("b".to_owned(), "new://b".to_owned())];
        let spliced = splice_urls(Path::new("m.toml"), text, &urls).unwrap();
        assert_eq!(
            spliced,
            "version = 1 # kept\n[[shards]]\nname = \"a\"\nurl = \"new://a\" # kept too\n\
             replicas = []\n[[shards]]\nurl=\"new://b\"\nname='b'\n"
        );
        assert!(splice_urls(Path::new("m.toml"), text, &urls[..1]).is_err());
    }
}
