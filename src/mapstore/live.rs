//! What the shards really are, against what the map takes them for.
//!
//! Main function: [`check`]; main type: [`Finding`]. Every shard is asked at the same time, read-only; its
//! schema is compared with that of the default shard, object by object. What lives on one shard only by the
//! map is not missed on the others.

mod databases;
mod keys;
mod reference;
mod schema;
mod told;

use std::fmt;

use self::databases::{check_databases, check_key_databases};
use self::keys::{check_keys, check_sequences, check_unique};
use self::reference::check_reference;
use self::schema::compare;
use self::told::{Told, ask};
use crate::catalog::{RelationKind, Table};
use crate::map::{CrossShardWrites, Placement, ShardId, ShardMap};

/// Something found on the shards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// It makes answers wrong, or statements fail; else it is only worth knowing.
    pub fault: bool,
    /// What, with table, column and shard.
    pub text: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.fault { "error" } else { "warning" }, self.text)?;
        if let Some(hint) = self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Asks every shard; what was found, faults first.
pub async fn check(map: &ShardMap) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told = Vec::new();
    for (at, shard) in (0..).map(ShardId).zip(map.shards()) {
        match ask(at, shard).await {
            Ok(answer) => told.push(answer),
            Err(error) => {
                fault(&mut findings, format!("shard {} can't be asked: {error}", shard.name), None);
            }
        }
    }
    for shard in &told {
        check_server(map, shard, &mut findings);
        check_databases(map, shard, &mut findings);
    }
    if map.has_key_databases() {
        let home = told.iter().find(|told| told.at == map.default_shard());
        for shard in &told {
            check_key_databases(map, home, shard, &mut findings).await;
        }
    }
    if let Some(home) = told.iter().find(|told| told.at == map.default_shard()) {
        for other in told.iter().filter(|other| other.at != home.at) {
            compare(map, home, other, &mut findings);
        }
        check_keys(map, home, &told, &mut findings);
        check_unique(map, home, &mut findings);
        check_sequences(map, &told, &mut findings);
        check_reference(map, home, &told, &mut findings).await;
    }
    findings.sort_by(|a, b| (!a.fault, &a.text).cmp(&(!b.fault, &b.text)));
    findings.dedup();
    findings
}

fn fault(findings: &mut Vec<Finding>, text: String, hint: Option<&'static str>) {
    findings.push(Finding { fault: true, text, hint });
}

fn warning(findings: &mut Vec<Finding>, text: String, hint: Option<&'static str>) {
    findings.push(Finding { fault: false, text, hint });
}

fn check_server(map: &ShardMap, told: &Told<'_>, findings: &mut Vec<Finding>) {
    let name = &told.shard.name;
    if told.server("recovery") == "true" {
        fault(
            findings,
            format!("shard {name} is a standby: it takes no writes"),
            Some("url must lead to the primary; list standbys under replicas"),
        );
    }
    let two_phase = map.policy().cross_shard_writes == CrossShardWrites::TwoPhase;
    if map.shards().len() < 2 || !two_phase {
        return;
    }
    if told.server("max_prepared_transactions") == "0" {
        warning(
            findings,
            format!(
                "shard {name} has max_prepared_transactions = 0: transactions that write on several shards are refused"
            ),
            Some(
                "set max_prepared_transactions to max_connections, or cross_shard_writes = \"refuse\"",
            ),
        );
    }
    let lacks = match told.server("decision") {
        "missing" => "does not have, and the role of its URL may not make,",
        "closed" => "does not let the role of its URL read, insert into and delete from",
        _ => return,
    };
    warning(
        findings,
        format!(
            "shard {name} {lacks} table pgmeridian.decision: transactions that write there and on other shards are refused"
        ),
        Some("a refused transaction's hint has the statements that an administrator runs"),
    );
}

/// Whether a table's rows are on more than one shard by the map.
fn is_spread(map: &ShardMap, table: &Table) -> bool {
    match map.placement(table) {
        Placement::Sharded { .. } | Placement::Reference | Placement::Lookup { .. } => true,
        Placement::Single(_) | Placement::Unlisted => table.kind != RelationKind::Table,
        Placement::Unusable(_) => true,
    }
}

fn bare(fq: &str) -> &str {
    fq.strip_prefix("public.").unwrap_or(fq)
}
