//! What is known of PostgreSQL's built-in functions and operators, and how a call is classified.
//!
//! The facts come from PostgreSQL's own `pg_proc` (`builtin_functions.txt`); what a function does besides
//! computing is listed here by hand. A name that is both built in and user-defined counts as
//! user-defined, since overloads are chosen by argument types, which are not known here; but what extensions bring
//! along and call immutable is as good as built in. A name that nobody knows is taken to be a volatile user-defined
//! function.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;

use super::ir::CallKind;
use crate::catalog::{Catalog, Names, Volatility};

/// Facts of a built-in function, the strictest over its overloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// `pg_proc.provolatile`.
    pub volatility: Volatility,
    /// It is (also) an aggregate.
    pub aggregate: bool,
    /// It is (also) a window function.
    pub window: bool,
    /// It returns a set.
    pub returns_set: bool,
}

/// What a call by this name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// For the IR.
    pub kind: CallKind,
    /// It aggregates (unless OVER makes it a window function).
    pub aggregate: bool,
    /// It returns a set.
    pub returns_set: bool,
}

static BUILTINS: LazyLock<FxHashMap<&'static str, Builtin>> = LazyLock::new(|| {
    let lines = include_str!("builtin_functions.txt").lines().filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.split_once(' ')).map(|(name, flags)| (name, facts(flags))).collect()
});

fn facts(flags: &str) -> Builtin {
    let volatility = match flags.as_bytes().first() {
        Some(b'i') => Volatility::Immutable,
        Some(b's') => Volatility::Stable,
        _ => Volatility::Volatile,
    };
    Builtin {
        volatility,
        aggregate: flags.contains('a'),
        window: flags.contains('w'),
        returns_set: flags.contains('r'),
    }
}

/// The built-in function of this name (lower case, without schema).
pub fn builtin(name: &str) -> Option<Builtin> {
    BUILTINS.get(name).copied()
}

/// Operators of PostgreSQL 15 (`pg_operator`) that are not arithmetic or comparison. Others come from
/// extensions or users, and are functions that nobody has looked into.
pub fn is_builtin_operator(operator: &str) -> bool {
    const OPERATORS: &[&str] = &[
        "!!", "!~", "!~*", "!~~", "!~~*", "#", "##", "#-", "#>", "#>>", "&", "&&", "&<", "&<|",
        "&>", "*<", "*<=", "*<>", "*=", "*>", "*>=", "->", "->>", "-|-", "<->", "<<", "<<=", "<<|",
        "<@", "<^", ">>", ">>=", ">^", "?", "?#", "?&", "?-", "?-|", "?|", "?||", "@", "@-@", "@>",
        "@?", "@@", "@@@", "^@", "|", "|&>", "|/", "|>>", "||", "||/", "~", "~*", "~<=~", "~<~",
        "~=", "~>=~", "~>~", "~~", "~~*", "%", "*", "+", "-", "/", "<", "<=", "<>", "!=", "=", ">",
        ">=", "^",
    ];
    OPERATORS.contains(&operator)
}

/// Classifies a call. `name` in the case in which the catalog has it, `schema` if one was written.
pub fn classify(name: &str, schema: Option<&str>, catalog: &Catalog, names: &Names<'_>) -> Called {
    let built_in = match schema {
        None | Some("pg_catalog") => builtin(name),
        Some(_) => None,
    };
    if let Some(user) = catalog.resolve_function(names, schema, name) {
        let volatility = built_in.map_or(user.volatility, |b| b.volatility.max(user.volatility));
        let kind = match built_in {
            _ if !user.is_as_built_in(name) => CallKind::User(volatility),
            Some(b) => built_in_kind(name, b),
            None => CallKind::Pure,
        };
        return Called {
            kind,
            aggregate: user.aggregate || built_in.is_some_and(|b| b.aggregate),
            returns_set: user.returns_set || built_in.is_some_and(|b| b.returns_set),
        };
    }
    if let Some(b) = built_in {
        return Called {
            kind: built_in_kind(name, b),
            aggregate: b.aggregate,
            returns_set: b.returns_set,
        };
    }
    let kind = match schema {
        None => syntax_kind(name),
        Some("information_schema") => Some(CallKind::Stable),
        Some(_) => None,
    };
    Called {
        kind: kind.unwrap_or(CallKind::User(Volatility::Volatile)),
        aggregate: name == "xmlagg",
        returns_set: false,
    }
}

/// The call makes a random UUID and does nothing else: PostgreSQL's own function, or that of an extension of
/// PostgreSQL's.
pub fn makes_random_uuid(
    name: &str,
    schema: Option<&str>,
    catalog: &Catalog,
    names: &Names<'_>,
) -> bool {
    let own = name == "gen_random_uuid";
    if schema == Some("pg_catalog") {
        return own;
    }
    match catalog.resolve_function(names, schema, name) {
        Some(user) => user.random_uuid || own && schema.is_none() && names.has_system_first(),
        None => own && schema.is_none(),
    }
}

/// Forms of the grammar that look like functions and are none in `pg_proc`.
fn syntax_kind(name: &str) -> Option<CallKind> {
    match name {
        "current_date" | "current_time" | "localtime" | "localtimestamp" | "current_timestamp" => {
            Some(CallKind::Time)
        }
        "current_catalog" | "current_role" | "current_schema" | "current_user" | "session_user"
        | "user" => Some(CallKind::Stable),
        "coalesce" | "nullif" | "greatest" | "least" | "row" | "grouping" | "array"
        | "xmlelement" | "xmlforest" | "xmlattributes" | "xmlpi" | "xmlroot" | "xmlserialize"
        | "xmlparse" | "xmlconcat" | "merge_action" => Some(CallKind::Pure),
        _ => None,
    }
}

/// What a built-in function does, for the names where volatility does not say enough.
fn built_in_kind(name: &str, facts: Builtin) -> CallKind {
    match name {
        "nextval" | "setval" | "currval" | "lastval" => CallKind::Sequence,
        "set_config" | "setseed" => CallKind::Setting,
        "pg_notify" => CallKind::Notifies,
        "now"
        | "transaction_timestamp"
        | "statement_timestamp"
        | "clock_timestamp"
        | "timeofday"
        | "age" => CallKind::Time,
        // An OID, found by a name: each server has its own.
        _ if name.starts_with("to_reg") => CallKind::Volatile,
        // Whoever has a lock to give back has the connection that holds it.
        _ if name.starts_with("pg_advisory_unlock") => CallKind::AdvisoryLock { session: false },
        _ if name.starts_with("pg_advisory_xact_") || name.starts_with("pg_try_advisory_xact_") => {
            CallKind::AdvisoryLock { session: false }
        }
        _ if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") => {
            CallKind::AdvisoryLock { session: true }
        }
        _ if measures(name) => CallKind::Measures,
        _ if reads_tables(name) => CallKind::ReadsTables,
        _ if server_state(name) => CallKind::Volatile,
        _ => match facts.volatility {
            Volatility::Immutable => CallKind::Pure,
            Volatility::Stable => CallKind::Stable,
            Volatility::Volatile => CallKind::Volatile,
        },
    }
}

/// It reads tables, files or slots that its arguments name, or it writes.
fn reads_tables(name: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "query_to_xml",
        "table_to_xml",
        "schema_to_xml",
        "database_to_xml",
        "cursor_to_xml",
        "lo_",
        "pg_logical_",
        "pg_read_",
        "pg_ls_",
        "pg_replication_",
        "pg_stat_reset",
        "pg_wal_replay_",
        "pg_backup_",
        "pg_rotate_logfile",
        "pg_create_",
        "pg_copy_",
        "binary_upgrade_",
        "brin_summarize",
        "brin_desummarize",
    ];
    const NAMES: &[&str] = &[
        "ts_stat",
        "ts_rewrite",
        "lowrite",
        "loread",
        "currtid2",
        "gin_clean_pending_list",
        "pg_stat_file",
        "pg_current_logfile",
        "pg_drop_replication_slot",
        "pg_promote",
        "pg_switch_wal",
        "pg_reload_conf",
        "pg_terminate_backend",
        "pg_cancel_backend",
        "pg_log_backend_memory_contexts",
        "pg_sequence_last_value",
        "pg_import_system_collations",
        "pg_export_snapshot",
        "pg_extension_config_dump",
        "pg_stat_clear_snapshot",
        "pg_stat_force_next_flush",
        "pg_nextoid",
        "pg_stop_making_pinned_objects",
        "pg_prepared_xact",
        "pg_get_multixact_members",
        "pg_hba_file_rules",
        "pg_ident_file_mappings",
        "pg_show_all_file_settings",
    ];
    PREFIXES.iter().any(|p| name.starts_with(p)) || NAMES.contains(&name)
}

/// It says how large something is on this server, or where it is stored.
fn measures(name: &str) -> bool {
    matches!(
        name,
        "pg_relation_size"
            | "pg_total_relation_size"
            | "pg_table_size"
            | "pg_indexes_size"
            | "pg_database_size"
            | "pg_tablespace_size"
            | "pg_relation_filepath"
            | "pg_relation_filenode"
    )
}

/// Stable within a statement, but another value on each server or connection.
fn server_state(name: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "pg_stat_",
        "inet_",
        "txid_",
        "pg_current_",
        "pg_xact_",
        "pg_last_",
        "pg_snapshot_",
        "pg_control_",
    ];
    const NAMES: &[&str] = &[
        "pg_backend_pid",
        "pg_postmaster_start_time",
        "pg_conf_load_time",
        "pg_listening_channels",
        "pg_cursor",
        "pg_prepared_statement",
        "pg_lock_status",
        "pg_my_temp_schema",
        "pg_is_other_temp_schema",
        "pg_get_replication_slots",
        "pg_tablespace_location",
        "version",
    ];
    PREFIXES.iter().any(|p| name.starts_with(p)) || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Function;

    fn check(name: &str, schema: Option<&str>, expected: CallKind) {
        let mut catalog = Catalog::default();
        let user = Function {
            volatility: Volatility::Stable,
            aggregate: false,
            returns_set: false,
            of_extension: false,
            random_uuid: false,
        };
        let extensions = Function { volatility: Volatility::Immutable, of_extension: true, ..user };
        let aggregate = Function { aggregate: true, ..extensions };
        let functions = [
            ("mine", user),
            ("lower", user),
            ("similarity", extensions),
            ("replace", extensions),
            ("unaccent", Function { of_extension: true, ..user }),
            ("max", aggregate),
            ("collect", aggregate),
        ];
        for (name, function) in functions {
            catalog.functions.insert(("public".to_owned(), name.to_owned()), function);
        }
        let path = ["$user".to_owned(), "public".to_owned()];
        let names = Names { search_path: &path, user: "u" };
        assert_eq!(classify(name, schema, &catalog, &names).kind, expected, "{name}");
    }

    #[test]
    fn calls_are_classified() {
        check("upper", None, CallKind::Pure);
        check("upper", Some("pg_catalog"), CallKind::Pure);
        check("upper", Some("public"), CallKind::User(Volatility::Volatile));
        check("lower", None, CallKind::User(Volatility::Stable));
        check("lower", Some("pg_catalog"), CallKind::Pure);
        check("mine", None, CallKind::User(Volatility::Stable));
        check("mine", Some("public"), CallKind::User(Volatility::Stable));
        check("mine", Some("other"), CallKind::User(Volatility::Volatile));
        check("similarity", None, CallKind::Pure);
        check("replace", None, CallKind::Pure);
        check("unaccent", None, CallKind::User(Volatility::Stable));
        check("max", None, CallKind::Pure);
        check("collect", None, CallKind::User(Volatility::Immutable));
        check("nobody", None, CallKind::User(Volatility::Volatile));
        check("now", None, CallKind::Time);
        check("random", None, CallKind::Volatile);
        check("gen_random_uuid", None, CallKind::Volatile);
        check("nextval", None, CallKind::Sequence);
        check("pg_advisory_lock", None, CallKind::AdvisoryLock { session: true });
        check("pg_try_advisory_xact_lock_shared", None, CallKind::AdvisoryLock { session: false });
        check("set_config", None, CallKind::Setting);
        check("query_to_xml", None, CallKind::ReadsTables);
        check("pg_total_relation_size", None, CallKind::Measures);
        check("pg_notify", None, CallKind::Notifies);
        check("to_char", None, CallKind::Stable);
        check("pg_backend_pid", None, CallKind::Volatile);
        check("coalesce", None, CallKind::Pure);
        check("current_user", None, CallKind::Stable);
        check("current_timestamp", None, CallKind::Time);
    }

    #[test]
    fn aggregates_and_sets_are_known() {
        for name in ["count", "sum", "array_agg", "percentile_cont", "rank"] {
            assert!(builtin(name).unwrap().aggregate, "{name}");
        }
        for name in ["generate_series", "unnest", "jsonb_array_elements", "regexp_matches"] {
            assert!(builtin(name).unwrap().returns_set, "{name}");
        }
        assert!(builtin("lag").unwrap().window);
        assert!(!builtin("upper").unwrap().aggregate);
    }
}
