//! General Bots' `config.csv` to a map's text.
//!
//! Main function: [`import`]. What has an equivalent is written; what has none is named in a remark, never
//! dropped in silence. Strategy `time` has no equivalent at all. It reads and writes text only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A map's text, and what its reader should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The map, as TOML.
    pub map: String,
    /// What was assumed, belongs elsewhere or has no equivalent.
    pub remarks: Vec<String>,
}

/// A shard as `config.csv` has it.
#[derive(Default, Clone)]
struct ShardRow {
    url: Option<String>,
    region: Option<String>,
    replicas: Vec<String>,
}

/// The settings, and what is said of them.
struct Settings {
    values: BTreeMap<String, String>,
    used: Vec<String>,
    remarks: Vec<String>,
}

impl Settings {
    fn take(&mut self, name: &str) -> Option<String> {
        self.used.push(name.to_owned());
        self.values.get(name).cloned().filter(|value| !value.is_empty())
    }

    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }
}

/// Reads a `config.csv` (rows of name and value) and writes the map that it means.
///
/// # Errors
///
/// What keeps it from being a map: no strategy, one without an equivalent, values that can't be read.
pub fn import(csv: &str) -> Result<Imported, String> {
    let mut settings = Settings { values: rows(csv), used: Vec::new(), remarks: Vec::new() };
    let strategy = settings.take("shard-strategy").ok_or(
        "there is no shard-strategy, so nothing is sharded: write a map by hand, or copy one of shard-maps/",
    )?;
    let mut shards = numbered_shards(&mut settings);
    let (column, key) = key_column(&mut settings);
    let mut sections = String::new();
    let default = match strategy.as_str() {
        "hash" => hash(&mut settings, &mut shards, &key, &mut sections)?,
        "range" => range(&mut settings, &mut shards, &key, &mut sections)?,
        "geo" => geo(&mut settings, &mut shards, &mut sections)?,
        "tenant" => tenant(&mut settings, &mut shards, &key, &mut sections)?,
        "time" => {
            return Err("shard-strategy time has no equivalent: a row's shard must follow from its \
                        stored key. Shard by tenant, and partition the tables by time on each shard \
                        (PARTITION BY RANGE (created_at))"
                .to_owned());
        }
        other => {
            return Err(format!(
                "shard-strategy {other} is not known: it is tenant, hash, range, geo or time"
            ));
        }
    };
    let mut map = String::from("version = 1\ndatabase = \"bots\"\n");
    let _ = writeln!(map, "default_shard = {}\n", quoted(&default));
    write_shards(&mut settings, &shards, &mut map);
    if strategy != "geo" {
        write_key(&column, &key, word(&strategy), &mut map);
        settings.remark(format!("type = \"bigint\" is assumed for {column}"));
    }
    map.push_str(&sections);
    settings.remark("database = \"bots\" is assumed: the name that clients connect to");
    rest(&mut settings);
    Ok(Imported { map, remarks: settings.remarks })
}

fn word(strategy: &str) -> &str {
    if strategy == "tenant" { "database" } else { strategy }
}

/// Names and values. What follows the name is the value, commas and all: lists are written so.
fn rows(csv: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for line in csv.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let Some((name, value)) = line.split_once(',') else { continue };
        let (name, value) = (unquoted(name), unquoted(value));
        if name != "name" {
            values.insert(name, value);
        }
    }
    values
}

fn unquoted(field: &str) -> String {
    let field = field.trim();
    match field.strip_prefix('"').and_then(|field| field.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => field.to_owned(),
    }
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| quoted(&name)).collect();
    format!("[{}]", names.join(", "))
}

type Shards = BTreeMap<String, ShardRow>;

/// `shard-N-primary` and `shard-N-replica-M`; names are `shardN`, as `shard-ranges` writes them.
fn numbered_shards(settings: &mut Settings) -> Shards {
    let mut shards = Shards::new();
    let names: Vec<String> = settings.values.keys().cloned().collect();
    for name in names {
        let Some((number, what)) =
            name.strip_prefix("shard-").and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let shard = format!("shard{number}");
        if what == "primary" {
            let url = settings.take(&name);
            shards.entry(shard).or_default().url = url.map(|url| as_url(settings, &url));
        } else if what.starts_with("replica-") {
            let url = settings.take(&name).map(|url| as_url(settings, &url));
            shards.entry(shard).or_default().replicas.extend(url);
        }
    }
    shards
}

/// A URL, or a host of which only the place is known.
fn as_url(settings: &mut Settings, text: &str) -> String {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        if !text.contains('@') {
            settings.remark(format!("{text} names no user: PGUSER or the system's user is taken"));
        }
        return text.to_owned();
    }
    settings.remark(format!(
        "{text} is a host only: set DB_USER and DB_PASSWORD, and see that the database is bots"
    ));
    format!("postgresql://${{DB_USER}}:${{DB_PASSWORD}}@{text}/bots")
}

/// The key's column and name.
fn key_column(settings: &mut Settings) -> (String, String) {
    let column = settings.take("shard-key").unwrap_or_else(|| "tenant_id".to_owned());
    let key = column.strip_suffix("_id").unwrap_or(&column).to_owned();
    (column, key)
}

fn write_key(column: &str, key: &str, strategy: &str, map: &mut String) {
    let _ = writeln!(map, "[keys.{}]", bare(key));
    let _ = writeln!(map, "columns = [{}]", quoted(column));
    let _ = writeln!(map, "tables = {{ {} = \"id\" }}", bare(&format!("{key}s")));
    let _ = writeln!(map, "type = \"bigint\"\nstrategy = {}\n", quoted(strategy));
}

/// A name that may need quotes as a TOML key.
fn bare(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { quoted(name) }
}

fn write_shards(settings: &mut Settings, shards: &Shards, map: &mut String) {
    let number = |name: &str| name.strip_prefix("shard").and_then(|n| n.parse::<i16>().ok());
    let mut order: Vec<(&String, &ShardRow)> = shards.iter().collect();
    order.sort_by_key(|(name, _)| (number(name).unwrap_or(i16::MAX), (*name).clone()));
    let numbered = order.iter().all(|(name, _)| number(name).is_some());
    for ((name, shard), at) in order.into_iter().zip(1_i16..) {
        let id = if numbered { number(name).unwrap_or(at) } else { at };
        let _ = writeln!(map, "[[shards]]\nid = {id}\nname = {}", quoted(name));
        if let Some(region) = &shard.region {
            let _ = writeln!(map, "region = {}", quoted(region));
        }
        let url = shard.url.clone().unwrap_or_else(|| {
            let variable = format!("{}_URL", name.to_uppercase().replace('-', "_"));
            settings.remark(format!("where {name} is, is not said: set {variable}"));
            format!("${{{variable}}}")
        });
        let _ = writeln!(map, "url = {}", quoted(&url));
        if !shard.replicas.is_empty() {
            let _ = writeln!(map, "replicas = {}", list(shard.replicas.clone()));
        }
        map.push('\n');
    }
}

/// So many shards, of which some may be known.
fn counted(settings: &mut Settings, shards: &mut Shards) -> Result<usize, String> {
    match settings.take("shard-count") {
        Some(text) => {
            let count = text.parse::<usize>().ok().filter(|count| (1..=1024).contains(count));
            let count =
                count.ok_or(format!("shard-count {text} is not a number from 1 to 1024"))?;
            let first = usize::from(!shards.contains_key("shard0"));
            for number in first..first + count {
                shards.entry(format!("shard{number}")).or_default();
            }
            if shards.len() > count {
                return Err(format!(
                    "shard-count is {count}, and {} shards are named",
                    shards.len()
                ));
            }
            Ok(count)
        }
        None if shards.is_empty() => {
            Err("neither shard-count nor shard-1-primary says which shards there are".to_owned())
        }
        None => Ok(shards.len()),
    }
}

fn hash(
    settings: &mut Settings,
    shards: &mut Shards,
    key: &str,
    sections: &mut String,
) -> Result<String, String> {
    let count = counted(settings, shards)?;
    let algorithm = settings.take("shard-algorithm").unwrap_or_else(|| "modulo".to_owned());
    let mut numbers: Vec<usize> =
        shards.keys().filter_map(|name| name.strip_prefix("shard")?.parse().ok()).collect();
    numbers.sort_unstable();
    let algorithm = match algorithm.as_str() {
        "modulo" => {
            // The remainder is the shard's number: 12345 % 4 = 1 is shard 1.
            if numbers.first() != Some(&0) {
                numbers.rotate_right(1);
                settings.remark(format!(
                    "remainder 0 is taken for shard{count}, since remainder 1 is shard1: see that your data agrees"
                ));
            }
            "modulo"
        }
        "consistent-hash" | "consistent" => {
            settings.remark(
                "algorithm = \"consistent\" has its own ring: data that another program spread by a \
                 consistent hash must be moved, or listed in a directory",
            );
            "consistent"
        }
        other => {
            return Err(format!(
                "shard-algorithm {other} is not known: it is modulo or consistent-hash"
            ));
        }
    };
    let names: Vec<String> = numbers.iter().map(|number| format!("shard{number}")).collect();
    let _ = writeln!(
        sections,
        "[keys.{}.hash]\nalgorithm = {}\nshards = {}",
        bare(key),
        quoted(algorithm),
        list(names)
    );
    Ok(default_shard(settings, shards))
}

fn default_shard(settings: &mut Settings, shards: &Shards) -> String {
    let named = settings.take("shard-default").filter(|name| shards.contains_key(name));
    let first = || {
        let number = |name: &&String| {
            name.strip_prefix("shard").and_then(|n| n.parse::<u32>().ok()).unwrap_or(u32::MAX)
        };
        shards.keys().min_by_key(number).cloned().unwrap_or_default()
    };
    named.unwrap_or_else(first)
}

fn range(
    settings: &mut Settings,
    shards: &mut Shards,
    key: &str,
    sections: &mut String,
) -> Result<String, String> {
    let ranges = settings
        .take("shard-ranges")
        .ok_or("shard-strategy is range, and there are no shard-ranges")?;
    let mut lines = String::new();
    for part in ranges.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let bad = || format!("shard-ranges: \"{part}\" is not from-to:shard");
        let (ends, shard) = part.rsplit_once(':').ok_or_else(bad)?;
        // A minus may be a sign, too.
        let dash = ends.char_indices().skip(1).find(|(_, c)| *c == '-').ok_or_else(bad)?.0;
        let (from, to) =
            (ends.get(..dash).unwrap_or_default(), ends.get(dash + 1..).unwrap_or_default());
        let mut line = String::new();
        for (name, end) in [("from", from.trim()), ("to", to.trim())] {
            if end.is_empty() {
                continue;
            }
            let number = end.parse::<i64>().map_err(|_| bad())?;
            let _ = write!(line, "{name} = {number}, ");
        }
        let _ = writeln!(lines, "    {{ {line}shard = {} }},", quoted(shard.trim()));
        shards.entry(shard.trim().to_owned()).or_default();
    }
    let _ = writeln!(sections, "[keys.{}.range]\nranges = [\n{lines}]", bare(key));
    Ok(default_shard(settings, shards))
}

fn geo(
    settings: &mut Settings,
    shards: &mut Shards,
    sections: &mut String,
) -> Result<String, String> {
    let places: Vec<(String, String)> = settings
        .values
        .iter()
        .filter_map(|(name, host)| {
            Some((name.strip_prefix("shard-geo-")?.to_owned(), host.clone()))
        })
        .collect();
    if places.is_empty() {
        return Err("shard-strategy is geo, and there is no shard-geo-…".to_owned());
    }
    let default = settings.take("shard-default");
    let mut default_name = None;
    let mut hosts: Vec<(String, String)> = Vec::new();
    let mut regions = Vec::new();
    let numbered = std::mem::take(shards);
    let mut meant: Vec<String> = Vec::new();
    for (place, host) in places {
        settings.used.push(format!("shard-geo-{place}"));
        // A shard of its own section, by name, or a host.
        let number = host.strip_prefix("shard").map(|rest| rest.strip_prefix('-').unwrap_or(rest));
        let named = number.map(|number| format!("shard{number}"));
        if let Some((name, row)) = named.and_then(|name| Some((name.clone(), numbered.get(&name)?)))
        {
            let region = Some(place.clone());
            shards.entry(name.clone()).or_insert_with(|| ShardRow { region, ..row.clone() });
            if default.as_ref() == Some(&host) {
                default_name.get_or_insert_with(|| name.clone());
            }
            regions.push(format!("{} = [{}]", bare(&place), quoted(&name)));
            meant.push(name);
            continue;
        }
        let known = hosts.iter().find(|(known, _)| *known == host).map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| place.clone());
        if !shards.contains_key(&name) {
            let url = as_url(settings, &host);
            let region = Some(place.clone());
            shards.insert(name.clone(), ShardRow { url: Some(url), region, replicas: Vec::new() });
            hosts.push((host.clone(), name.clone()));
        }
        if default.as_ref() == Some(&host) {
            default_name.get_or_insert_with(|| name.clone());
        }
        regions.push(format!("{} = [{}]", bare(&place), quoted(&name)));
    }
    for name in numbered.keys().filter(|name| !meant.contains(name)) {
        settings.remark(format!(
            "the primary and the replicas of {name} are not used: no shard-geo-… names it, by {name}"
        ));
    }
    let default_name = match (default_name, default) {
        (Some(name), _) => name,
        (None, Some(host)) => {
            let url = as_url(settings, &host);
            let row = ShardRow { url: Some(url), region: None, replicas: Vec::new() };
            shards.insert("default".to_owned(), row);
            "default".to_owned()
        }
        (None, None) => {
            settings.remark("there is no shard-default: rows of other regions are refused");
            shards.keys().next().cloned().unwrap_or_default()
        }
    };
    let other = if settings.values.contains_key("shard-default") {
        default_name.as_str()
    } else {
        "refuse"
    };
    settings.remark(
        "strategy geo reads the region from the column region_code of each row, with the values that \
         shard-geo-… has (us, eu, asia): a placement must follow from what is stored",
    );
    sections.push_str(
        "[keys.region]\ncolumns = [\"region_code\"]\ntype = \"text\"\nstrategy = \"geo\"\n\n",
    );
    let _ = writeln!(
        sections,
        "[keys.region.geo]\nregions = {{ {} }}\ndefault = {}",
        regions.join(", "),
        quoted(other)
    );
    Ok(default_name)
}

fn tenant(
    settings: &mut Settings,
    shards: &mut Shards,
    key: &str,
    sections: &mut String,
) -> Result<String, String> {
    if settings.values.contains_key("shard-count") || !shards.is_empty() {
        counted(settings, shards)?;
    } else {
        shards.insert("shard1".to_owned(), ShardRow::default());
    }
    let prefix = settings.take("shard-tenant-db-prefix").unwrap_or_else(|| "gb_tenant_".to_owned());
    let auto = settings.take("shard-auto-create").is_some_and(|word| word == "true");
    let _ = writeln!(
        sections,
        "[keys.{key}.database]\nprefix = {}\nplacement = \"hash\"\nauto_create = {auto}\n",
        quoted(&prefix),
        key = bare(key)
    );
    let names: Vec<String> = shards.keys().cloned().collect();
    let _ = writeln!(
        sections,
        "[keys.{}.hash]\nalgorithm = \"consistent\"\nshards = {}",
        bare(key),
        list(names)
    );
    Ok(default_shard(settings, shards))
}

/// Where else a setting belongs: its name here, section and name there, and the unit there.
const ELSEWHERE: [(&str, &str, &str); 8] = [
    ("circuit-breaker-threshold", "[breaker] threshold", ""),
    ("circuit-breaker-timeout", "[breaker] timeout", "s"),
    ("circuit-breaker-half-open-requests", "[breaker] half_open_requests", ""),
    ("health-interval", "[health] interval", "s"),
    ("health-timeout", "[health] timeout", "s"),
    ("health-retries", "[health] retries", ""),
    ("health-endpoint", "[http] address, which answers /health and /api/health", "?"),
    ("health-enabled", "[http] address, which answers /health and /api/health", "?"),
];

/// `shard-N-…`.
fn of_a_shard(name: &str) -> bool {
    let number = name.strip_prefix("shard-").and_then(|rest| rest.split_once('-'));
    number.is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Settings about shards, breakers and health that went nowhere.
fn rest(settings: &mut Settings) {
    let left: Vec<(String, String)> = settings
        .values
        .iter()
        .filter(|(name, _)| !settings.used.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in left {
        let elsewhere = ELSEWHERE.iter().find(|(known, _, _)| *known == name);
        if let Some((_, there, unit)) = elsewhere {
            let text = match *unit {
                "?" => format!("{name} belongs into pgmeridian.toml: {there}"),
                "s" => format!("{name} belongs into pgmeridian.toml: {there} = \"{value}s\""),
                _ => format!("{name} belongs into pgmeridian.toml: {there} = {value}"),
            };
            settings.remark(text);
            continue;
        }
        let why = match name.as_str() {
            "shard-isolation-level" if value == "database" => continue,
            "shard-isolation-level" => "isolation by schema has no equivalent",
            "shard-interval" | "shard-retention-months" | "shard-auto-archive" => {
                "has no equivalent: partition the tables by time on each shard"
            }
            "shard-auto-provision" => {
                "has no equivalent: shards are made by hand, and added to the map"
            }
            "shard-detection" => {
                "has no equivalent: a client's address may only choose the home of new keys \
                 (place_new = \"geo\", with networks or geoip)"
            }
            "shard-regions" => "is not needed: regions are those of the shards",
            _ if name.starts_with("shard-") && name.ends_with("-failover-priority") => {
                "has no equivalent: the order of replicas is PostgreSQL's own tools' to decide (Patroni, say)"
            }
            _ if name.starts_with("circuit-breaker-") || name.starts_with("metrics-") => {
                "has no equivalent: it is always on"
            }
            _ if of_a_shard(&name) => {
                "is not known: a shard's URL is shard-1-primary, say, and that of a replica shard-1-replica-1"
            }
            _ if name.starts_with("shard-") => "is not used by this strategy, or not known",
            // Bots have many settings that are none of a map's business.
            _ => continue,
        };
        settings.remark(format!("{name} {why}"));
    }
}
