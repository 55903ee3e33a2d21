//! `set_config`: what a query sets besides what it answers.
//!
//! Where the statement is sure to set it, and to what can be told, the session follows it as it follows SET:
//! every connection it comes to is told. What can't be told stays on its connection; on a map of several
//! shards only for the length of a transaction, which then stays on that shard.

use super::compile::Query;
use super::constant::Constants;
use super::refusal::Refusal;
use crate::error::SqlError;
use crate::map::ShardMap;
use crate::sql::class::{SetCommand, SetValue, is_custom};
use crate::sql::ir::{SettingCall, Span};

/// What decides how statements are read, or as whom they run.
const OF_READING: [&str; 5] = [
    "search_path",
    "role",
    "session_authorization",
    "standard_conforming_strings",
    "client_encoding",
];

/// Lists whose elements PostgreSQL quotes one by one (`GUC_LIST_QUOTE`): SET takes one string for one element.
const OF_NAMES: [&str; 5] = [
    "temp_tablespaces",
    "session_preload_libraries",
    "shared_preload_libraries",
    "local_preload_libraries",
    "search_path",
];

/// What the query sets, if all of it can be told; `None` too where it sets nothing.
pub(super) fn told(query: &Query, constants: &Constants<'_>) -> Option<Box<[SetCommand]>> {
    if query.settings.is_empty() {
        return None;
    }
    query.settings.iter().map(|call| command(call, constants)).collect()
}

/// What it sets must not lead later statements astray.
///
/// # Errors
///
/// 0A000 where they would be read or routed otherwise, or where the other shards (`several`) would not know
/// of it.
pub(super) fn check(
    query: &Query,
    map: &ShardMap,
    constants: &Constants<'_>,
    several: bool,
) -> Result<(), SqlError> {
    if sets_key_alone(query, map, constants) {
        return Ok(());
    }
    for call in &query.settings {
        let name = name(call, constants);
        let value = call.value.as_ref().and_then(|value| constants.text(value));
        if name.as_deref().is_none_or(|name| matters(name, value.as_deref(), map)) {
            return Err(Refusal::SettingFunction { name }.into());
        }
        if several && call.local != Some(true) && command(call, constants).is_none() {
            return Err(Refusal::SettingUntold { name: name.unwrap_or_default() }.into());
        }
    }
    Ok(())
}

/// Where all rows live, nothing is led astray but by a session's key that is not known to be one.
///
/// # Errors
///
/// 0A000.
pub(super) fn check_key(
    query: &Query,
    map: &ShardMap,
    constants: &Constants<'_>,
) -> Result<(), SqlError> {
    let Some(key_setting) = map.key_setting() else { return Ok(()) };
    let mut names = query.settings.iter().map(|call| name(call, constants));
    if names.any(|name| name.as_deref() == Some(key_setting))
        && !sets_key_alone(query, map, constants)
    {
        return Err(Refusal::SettingFunction { name: Some(key_setting.to_owned()) }.into());
    }
    Ok(())
}

/// It sets the map's `key_setting`, and is nothing but settings of the application's own that can be told: as
/// good as SET.
fn sets_key_alone(query: &Query, map: &ShardMap, constants: &Constants<'_>) -> bool {
    let Some(key_setting) = map.key_setting() else { return false };
    let is_told = |call: &SettingCall| {
        let own = |set: SetCommand| is_custom(&set.name) && !set.name.starts_with("pgmeridian.");
        call.column.is_some() && command(call, constants).is_some_and(own)
    };
    query.settings.iter().all(is_told)
        && query.settings.iter().any(|call| name(call, constants).as_deref() == Some(key_setting))
}

fn name(call: &SettingCall, constants: &Constants<'_>) -> Option<String> {
    let name = call.name.as_ref().and_then(|name| constants.text(name));
    name.map(|name| name.to_ascii_lowercase())
}

/// Later statements may be read or routed otherwise.
fn matters(name: &str, value: Option<&str>, map: &ShardMap) -> bool {
    is_read_by(name, value) || name.starts_with("pgmeridian.") || map.key_setting() == Some(name)
}

/// Later statements are read by it. (Under an empty `search_path` a name means nothing, and never another
/// table.)
fn is_read_by(name: &str, value: Option<&str>) -> bool {
    let empty = name == "search_path" && value.is_some_and(str::is_empty);
    OF_READING.contains(&name) && !empty
}

/// The SET that does the same. Those that later statements are read by are SET's alone.
fn command(call: &SettingCall, constants: &Constants<'_>) -> Option<SetCommand> {
    let name = name(call, constants)?;
    let value = call.value.as_ref().and_then(|value| constants.text(value))?;
    let unlike = is_read_by(&name, Some(&value))
        || OF_NAMES.contains(&name.as_str()) && value.contains([',', '"']);
    (call.certain && !unlike).then_some(SetCommand {
        local: call.local?,
        name,
        value: SetValue::One(value.into_owned()),
        span: Span::default(),
    })
}
