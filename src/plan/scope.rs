//! What chooses or restricts the shard besides the statement: hint and session, shard and key.
//!
//! Main type: [`Resolved`]. Sources that are present must agree (contract §3); this room names both where
//! they don't.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::database::database_of;
use super::refusal::Refusal;
use super::{FreshHere, Scope, Temporary};
use crate::datum::{KeyType, KeyValue};
use crate::error::SqlError;
use crate::lookup::Lookups;
use crate::map::{KeyDatabase, KeyId, Part, ShardId, ShardMap, ShardSet, did_you_mean};
use crate::sql::class::Class;

/// Where a choice came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A comment before the statement.
    Hint,
    /// The session.
    Session,
    /// The database that the session is in.
    Database,
    /// Who the session's user is.
    User,
}

impl Origin {
    /// As the contract's JSON names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Session | Self::User | Self::Database => "session",
        }
    }

    pub(super) fn possessive(self) -> &'static str {
        match self {
            Self::Hint => "the hint's",
            Self::Session => "the session's",
            Self::Database => "the database's",
            Self::User => "the user's",
        }
    }
}

/// A key that the statement is restricted to.
#[derive(Clone, Debug)]
pub(super) struct ScopeKey<'s> {
    /// Which key.
    pub(super) key: KeyId,
    /// Its (first part's) value.
    pub(super) value: &'s KeyValue<'static>,
    /// Where it came from.
    pub(super) origin: Origin,
    /// The shards of its rows.
    pub(super) shards: ShardSet,
}

/// A scope whose sources agree.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolved<'s> {
    /// The shard, and where it came from.
    pub(super) shard: Option<(ShardId, Origin)>,
    /// The session is for all shards.
    pub(super) everywhere: bool,
    /// What is planned for one shard runs on all of them.
    pub(super) on_each: bool,
    /// All rows are of the key, where the statement runs: none has to be kept from it.
    pub(super) whole: bool,
    /// The key's own database, if hint or session lead there.
    pub(super) database: Option<Arc<KeyDatabase>>,
    /// The keys: one for each sharding key that has a value.
    pub(super) keys: SmallVec<[ScopeKey<'s>; 1]>,
    /// The user may touch rows of the session's key only.
    pub(super) confined: bool,
    /// The user may read rows of fenced regions together with others.
    pub(super) across_regions: bool,
    /// What is known of ids that lead to keys.
    pub(super) lookups: Option<&'s dyn Lookups>,
    /// What is made for the statement.
    pub(super) fresh: Option<FreshHere<'s>>,
    /// The session's temporary tables, if the statement may mean them.
    pub(super) temporary: Option<Temporary<'s>>,
    /// Rows are read on the transaction's own connections only.
    pub(super) own_rows: bool,
}

impl<'s> Resolved<'s> {
    /// Brings hint and session together. Where every row lives on one shard (`solo`), keys have no
    /// shards of their own.
    ///
    /// # Errors
    ///
    /// 22023 when two sources disagree, or a key has no shard.
    pub(super) fn new(
        map: &'s ShardMap,
        scope: &'s Scope<'_>,
        solo: Option<ShardId>,
    ) -> Result<Self, SqlError> {
        let shard = match (scope.hint_shard, scope.session_shard) {
            (Some(hint), Some(session)) if hint != session => {
                return Err(disagree_shards(map, (hint, Origin::Hint), (session, Origin::Session)));
            }
            (Some(hint), _) => Some((hint, Origin::Hint)),
            (None, session) => session.map(|shard| (shard, Origin::Session)),
        };
        let mut keys: SmallVec<[ScopeKey<'s>; 1]> = SmallVec::new();
        let sole = map.sole_key().map(|(key, value)| (key, value, Origin::Database));
        let own = if scope.confined { Origin::User } else { Origin::Session };
        let named = [(&scope.session_key, own), (&scope.hint_key, Origin::Hint)];
        let named = named.into_iter().filter_map(|(named, origin)| {
            named.as_ref().map(|(key, value)| (*key, &**value, origin))
        });
        for (key, value, origin) in sole.into_iter().chain(named) {
            if let Some(same) = keys.iter_mut().find(|k| k.key == key) {
                if same.value != value {
                    return Err(disagree_keys(map, same, (value, origin), scope.confined));
                }
                if origin == Origin::User {
                    same.origin = origin;
                }
                continue;
            }
            let shards = match solo {
                Some(home) => ShardSet::of(home),
                None => key_shards(map, key, value)?,
            };
            keys.push(ScopeKey { key, value, origin, shards });
        }
        if let Some((shard, origin)) = shard {
            for key in keys.iter().filter(|_| solo.is_none()) {
                if !key.shards.contains(shard) {
                    let (one, other) = (key_text(map, key), shard_text(map, shard, origin));
                    return Err(Refusal::SourcesDisagree { one, other }.of_user(scope.confined));
                }
            }
        }
        let everywhere = scope.everywhere && shard.is_none() && solo.is_none();
        let mut own = None;
        for key in keys.iter().filter(|_| solo.is_none()) {
            own = own.or(database_of(map, key.key, key.value)?);
        }
        // Done in the key's own database alone it would be missing on all shards.
        if scope.everywhere
            && scope.session_key.is_some()
            && (own.is_some() || map.sole_key().is_some())
            && let Some(key) = keys.first()
        {
            let (one, other) = (key_text(map, key), "the session's shard is *".to_owned());
            return Err(Refusal::SourcesDisagree { one, other }.of_user(scope.confined));
        }
        Ok(Self {
            shard,
            everywhere,
            on_each: false,
            // Another key that is in scope is a filter still.
            whole: map.sole_key().is_some() || own.is_some() && keys.len() == 1,
            database: own.map(Arc::new),
            keys,
            confined: scope.confined,
            across_regions: scope.across_regions,
            lookups: scope.lookups,
            fresh: scope.fresh,
            temporary: scope.temporary,
            own_rows: scope.own_rows,
        })
    }

    /// The session as a whole is one of this key.
    pub(super) fn is_session_of(&self, key: KeyId) -> bool {
        self.key(key).is_some_and(|key| matches!(key.origin, Origin::Session | Origin::User))
    }

    /// The value that rows of this key are restricted to.
    pub(super) fn key(&self, key: KeyId) -> Option<&ScopeKey<'s>> {
        self.keys.iter().find(|k| k.key == key)
    }
}

fn key_shards(map: &ShardMap, key: KeyId, value: &KeyValue<'static>) -> Result<ShardSet, SqlError> {
    let values = [value.clone()];
    map.place_parts(key, &[Part::Values(&values)])
        .map_err(|no_shard| Refusal::NoShard { no_shard, table: None }.into())
}

fn disagree_shards(map: &ShardMap, a: (ShardId, Origin), b: (ShardId, Origin)) -> SqlError {
    Refusal::SourcesDisagree { one: shard_text(map, a.0, a.1), other: shard_text(map, b.0, b.1) }
        .into()
}

fn disagree_keys(
    map: &ShardMap,
    a: &ScopeKey<'_>,
    (value, origin): (&KeyValue<'_>, Origin),
    confined: bool,
) -> SqlError {
    let name = key_name(map, a.key);
    Refusal::SourcesDisagree {
        one: format!("{} key is {name} = {value}", origin.possessive()),
        other: format!("{} key is {name} = {}", a.origin.possessive(), a.value),
    }
    .of_user(confined)
}

/// `the session's shard is deu`
pub(super) fn shard_text(map: &ShardMap, shard: ShardId, origin: Origin) -> String {
    format!("{} shard is {}", origin.possessive(), map.shard_name(shard))
}

/// `the session's key is tenant = 42 (shard deu)`
pub(super) fn key_text(map: &ShardMap, key: &ScopeKey<'_>) -> String {
    let shards: Vec<&str> = key.shards.iter().map(|s| map.shard_name(s)).collect();
    format!(
        "{} key is {} = {} (shard {})",
        key.origin.possessive(),
        key_name(map, key.key),
        key.value,
        shards.join(", ")
    )
}

/// A key's name.
pub(super) fn key_name(map: &ShardMap, key: KeyId) -> &str {
    map.key(key).map_or("?", |key| key.name.as_str())
}

/// The shard that a hint or `SET pgmeridian.shard` names.
///
/// # Errors
///
/// 22023 when there is none of that name, with the nearest one as a hint.
pub fn resolve_shard(map: &ShardMap, name: &str) -> Result<ShardId, SqlError> {
    let numbered = || {
        let id: i16 = name.parse().ok()?;
        let at = map.shards().iter().position(|shard| shard.id == id)?;
        u16::try_from(at).ok().map(ShardId)
    };
    map.shard_named(name).or_else(numbered).ok_or_else(|| {
        let names = map.shards().iter().map(|shard| shard.name.as_str());
        let nearest = did_you_mean(name, names).map(ToOwned::to_owned);
        Refusal::UnknownShard { name: name.to_owned(), nearest }.into()
    })
}

/// Whether a setting is the proxy's own: it says what the session's statements see, and no shard knows it.
pub fn is_own(setting: &str, map: &ShardMap) -> bool {
    setting.starts_with("pgmeridian.") || map.key_setting() == Some(setting)
}

/// Whether a statement sets, resets or shows a setting of the proxy's own.
pub fn is_own_setting(class: &Class, map: &ShardMap) -> bool {
    match class {
        Class::Set(set) => is_own(&set.name, map),
        Class::Reset(Some(name)) | Class::Show(name) => is_own(name, map),
        _ => false,
    }
}

/// The key that a hint or `SET pgmeridian.key` names: a value of the session's key
/// (`[sessions] key`).
///
/// # Errors
///
/// 22023 when the map doesn't say which key a session has, or the text is no value of its type.
pub fn resolve_key(map: &ShardMap, text: &str) -> Result<(KeyId, KeyValue<'static>), SqlError> {
    let Some(id) = map.session_key() else {
        let keys = map.keys().iter().map(|key| key.name.clone()).collect();
        return Err(Refusal::NoSessionKey { keys }.into());
    };
    let ty = map.key(id).map_or(KeyType::Text, crate::map::Key::key_type);
    match KeyValue::from_text(ty, text) {
        Ok(value) => Ok((id, value.into_owned())),
        Err(error) => {
            let key = key_name(map, id).to_owned();
            Err(Refusal::BadKey { key, why: error.message }.into())
        }
    }
}

/// A scope's key as it is kept by a session.
pub fn scope_key(key: (KeyId, KeyValue<'static>)) -> (KeyId, Cow<'static, KeyValue<'static>>) {
    (key.0, Cow::Owned(key.1))
}
