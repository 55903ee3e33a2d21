//! Why a statement is refused, and what to do instead: the detail and the hint of its error.

use super::super::construct::Construct;
use super::Refusal;

impl Refusal {
    /// Why.
    pub(in crate::plan) fn detail(&self) -> Option<String> {
        match self {
            Self::ReferenceDiverges { .. } => Some(
                "Each shard would have its own value, and a reference table is the same on all.".into(),
            ),
            Self::Schema(refusal) => Some(refusal.detail()),
            Self::SourcesDisagree { .. } => {
                Some("Everything that chooses a shard must agree: hint, session and statement.".into())
            }
            Self::UnknownShard { .. } => None,
            Self::NoSessionKey { keys } => Some(format!("It has keys {}.", keys.join(", "))),
            Self::BadKey { .. } => None,
            Self::NoShard { no_shard, table } => no_shard.error(table.as_deref()).detail,
            Self::SeveralShards { construct, shards } => {
                Some(format!("{} The statement reads {}.", construct.why(), shards_text(shards)))
            }
            Self::DifferentShards { .. } => {
                Some("No shard has all of the rows that the statement joins.".into())
            }
            Self::NotInDatabase(what) => Some(what.detail().into()),
            Self::CrossShardReads { shards } => Some(format!(
                "The statement reads {}, and the map's policy says cross_shard_reads = \"refuse\".",
                shards_text(shards)
            )),
            Self::Residency { .. } => Some("The map's policy residency says so.".into()),
            Self::Lookup { .. } => {
                Some("Its rows have no key column of their own; where they live is found by an id.".into())
            }
            Self::LookupMiss { .. } => {
                Some("The row lives with the key that the id leads to, and no shard knows the id.".into())
            }
            Self::Frozen { .. } => {
                Some("Its rows are being moved; they can be read, but not written.".into())
            }
            Self::Moving { why, .. } => {
                Some(format!("Its rows may be there twice, and must not be seen twice: {why}."))
            }
            Self::CopiesWritten { .. } => {
                Some("It would change them on one shard only.".into())
            }
            Self::IdAssigned { .. } => {
                Some("The new id's key would have to be the key of the rows that change.".into())
            }
            Self::UnlistedTable { .. } => {
                Some("The map's policy says unlisted_tables = \"refuse\".".into())
            }
            Self::UnusableTable { why, .. } => Some(why.clone()),
            Self::UserFunction { .. } => Some(
                "It may read or write any table; on several shards only a statement whose sharded tables \
                 are pinned to one shard can call it."
                    .into(),
            ),
            Self::HomeFunction { .. } | Self::AllFunction { .. } => {
                Some("Section [functions] of the shard map declares it so.".into())
            }
            Self::ReadingFunction { .. } => {
                Some("Which tables it reads is not known before it runs.".into())
            }
            Self::CrossShardWrite { shards, .. } | Self::CrossShardInsert { shards, .. } => {
                Some(format!("Its rows are on {}.", shards_text(shards)))
            }
            Self::ReferenceWrite { .. } => {
                Some("A reference table has the same rows on every shard.".into())
            }
            Self::KeyMissing { sequence: true, .. } | Self::KeyExpression { sequence: true, .. } => {
                Some("Its default is a sequence, and each shard counts for itself: two shards would give the same key.".into())
            }
            Self::KeyMissing { .. } => Some("The key decides on which shard the row lives.".into()),
            Self::KeyNull { .. } => Some("A row without a key has no shard.".into()),
            Self::KeyExpression { .. } => {
                Some("Its value would be known only on a shard, after the shard was chosen.".into())
            }
            Self::InsertQuery { .. } => Some(
                "The rows' key must be proved to belong to the shard that the query runs on.".into(),
            ),
            Self::KeyAssigned { .. } => {
                Some("A changed key may belong to another shard, and the row would stay behind.".into())
            }
            Self::RuledWrite { .. } => {
                Some("Its rules turn the statement into others, which can't be seen.".into())
            }
            Self::ViewWrite { .. } => Some("Where a view's rows go can't be seen.".into()),
            Self::WriteElsewhere { .. } => {
                Some("No row is written where the shard map does not place it.".into())
            }
            Self::SettingFunction { .. } => Some(
                "Where later statements go may depend on it, and only SET is followed.".into(),
            ),
            Self::SettingUntold { .. } => Some(
                "Every shard that the session comes to must be told, and this is known to one alone.".into(),
            ),
            Self::UncheckedWrite { .. } => Some(
                "Whatever chooses the shard, no row is written where the shard map does not place it.".into(),
            ),
            Self::KeyFilter { why, .. } => Some((*why).to_owned()),
            Self::Confined { .. } => Some("The user is confined to one key.".into()),
            Self::Utility { .. } => {
                Some("Done on each shard by itself it would not be the same.".into())
            }
            Self::CopyFrom { .. } => Some(
                "Each of its rows would have to be read for its key and go to its own shard, which isn't done yet.".into(),
            ),
            Self::OtherDatabase { .. } => Some(
                "A session of a database that is routed by its name reaches the shard of that database only."
                    .into(),
            ),
            Self::HiddenCode { .. } => Some("What its code reads and writes can't be seen.".into()),
            Self::SessionState { .. } => {
                Some("It leaves state on a server, and the session is not bound to one shard.".into())
            }
            Self::ExplainSeveral => Some("Each shard has a plan of its own.".into()),
            Self::Opaque { reason, names } => Some(format!("{reason}; {names}.")),
            Self::ClientEncoding => {
                Some("The key's bytes decide its shard, and they are those of UTF8.".into())
            }
        }
    }

    /// What to do instead.
    pub(in crate::plan) fn hint(&self) -> Option<String> {
        const SHARD: &str = "Choose a shard: SET pgmeridian.shard = '…'.";
        match self {
            Self::ReferenceDiverges { .. } => {
                Some("Ask for the value first, and write it as a constant or a parameter.".into())
            }
            Self::Schema(refusal) => Some(refusal.hint()),
            Self::SourcesDisagree { .. } => {
                Some("Leave one of them out, or RESET pgmeridian.shard and pgmeridian.key.".into())
            }
            Self::OtherDatabase { .. } => {
                Some("Connect to the database that the shard map serves.".into())
            }
            Self::UnknownShard { nearest, .. } => Some(match nearest {
                Some(name) => format!("Did you mean shard \"{name}\"?"),
                None => "SHOW SHARDS on the console lists them.".into(),
            }),
            Self::NoSessionKey { .. } => Some("Set key under [sessions] in the shard map.".into()),
            Self::BadKey { .. } | Self::NoShard { table: None, .. } => None,
            Self::NoShard { no_shard, table } => no_shard.error(table.as_deref()).hint,
            Self::SeveralShards { construct: Construct::NotColocated(..), .. } => Some(
                "Join the tables on the sharding key, or restrict each of them to one key.".into(),
            ),
            Self::Residency { .. } => Some(
                "Restrict the statement to shards of one region, by the key; or let a user ask who has across_regions = true under [[users]].".into(),
            ),
            Self::SeveralShards { .. } | Self::CrossShardReads { .. } => {
                Some("Restrict the statement to one sharding key, or choose a shard: SET pgmeridian.shard = '…'.".into())
            }
            Self::DifferentShards { .. } => {
                Some("Write one statement for each shard.".into())
            }
            Self::NotInDatabase(what) => Some(what.hint()),
            Self::Lookup { .. } => Some(SHARD.into()),
            Self::LookupMiss { .. } => {
                Some("Insert the row that the id belongs to first, and write the id as a constant.".into())
            }
            Self::Frozen { .. } => Some("Try again when the key is not frozen any more.".into()),
            Self::Moving { .. } => Some("Try again when the key is not frozen any more, or restrict the statement to one sharding key.".into()),
            Self::CopiesWritten { .. } => {
                Some("SET pgmeridian.shard = '*' writes them on all shards, all or nothing. To leave them alone, restrict the statement to other rows, or say in [[everywhere]] which key they have (key = …).".into())
            }
            Self::IdAssigned { .. } => {
                Some("Assign a constant, and restrict the statement to its key.".into())
            }
            Self::UnlistedTable { .. } => Some(
                "List it under [tables] in the shard map: \"reference\", or { shard = \"…\" }.".into(),
            ),
            Self::UnusableTable { .. } => {
                Some("List the table under [tables] in the shard map.".into())
            }
            Self::UserFunction { name } => Some(format!(
                "Restrict the statement to one sharding key, choose a shard (SET pgmeridian.shard = '…'), or \
                 declare \"{name}\" under [functions] in the shard map."
            )),
            Self::HomeFunction { .. } | Self::AllFunction { .. } | Self::ReadingFunction { .. } => {
                Some(SHARD.into())
            }
            Self::CrossShardWrite { .. } => Some(
                "Restrict it to one sharding key, or run it shard by shard: SET pgmeridian.shard = '…'.".into(),
            ),
            Self::CrossShardInsert { .. } => Some("Write one INSERT for each shard.".into()),
            Self::ReferenceWrite { .. } | Self::Utility { .. } => {
                Some("Run it on each shard: SET pgmeridian.shard = '…'.".into())
            }
            Self::KeyMissing { sequence: true, .. } | Self::KeyExpression { sequence: true, .. } => Some(
                "Ask for the number first (SELECT nextval('…') is answered by the default shard for everyone), and \
                 write it as a literal or a parameter; or let the key be a uuid with DEFAULT gen_random_uuid()."
                    .into(),
            ),
            Self::KeyMissing { column, .. } => Some(format!(
                "Give \"{column}\" a value, or set the session's key: SET pgmeridian.key = '…'."
            )),
            Self::KeyNull { .. } => Some("Give the key a value.".into()),
            Self::KeyExpression { .. } => Some("Write the key as a literal or a parameter.".into()),
            Self::InsertQuery { .. } => Some(
                "Select the key from a table that is restricted to one key, or write it as a constant."
                    .into(),
            ),
            Self::KeyAssigned { .. } => Some("Delete the row and insert it with its new key.".into()),
            Self::RuledWrite { .. } => {
                Some("Use a trigger, or partitions, in the place of the rules.".into())
            }
            Self::ViewWrite { .. } => Some("Write to the table itself.".into()),
            Self::WriteElsewhere { .. } => Some(
                "Reset the shard, or list the table as \"reference\" under [tables] if each shard has its own."
                    .into(),
            ),
            Self::SettingFunction { .. } => Some("Use SET or SET LOCAL.".into()),
            Self::SettingUntold { .. } => Some(
                "Use SET, or SELECT set_config alone with constants or parameters, or choose a shard: \
                 SET pgmeridian.shard = '…'."
                    .into(),
            ),
            Self::CopyFrom { .. } | Self::UncheckedWrite { .. } => Some(
                "Write the rows with INSERT … VALUES, with their keys as constants or parameters.".into(),
            ),
            Self::KeyFilter { .. } => Some(
                "Name the table in the statement itself, with its key, or RESET pgmeridian.key.".into(),
            ),
            Self::Confined { .. } => {
                Some("A user may touch other keys whose entry under [[users]] names none.".into())
            }
            Self::HiddenCode { .. } | Self::SessionState { .. } => Some(SHARD.into()),
            Self::ExplainSeveral => Some(
                "EXPLAIN (ROUTE) shows where it goes; for one shard's plan choose it: SET pgmeridian.shard = '…'."
                    .into(),
            ),
            Self::Opaque { .. } => Some(
                "Write it in plainer SQL, or choose a shard: SET pgmeridian.shard = '…'.".into(),
            ),
            Self::ClientEncoding => Some("SET client_encoding = 'UTF8'.".into()),
        }
    }
}

fn shards_text(shards: &[String]) -> String {
    match shards {
        [] => "no shard".to_owned(),
        [one] => format!("shard {one}"),
        several => format!("shards {}", several.join(", ")),
    }
}
