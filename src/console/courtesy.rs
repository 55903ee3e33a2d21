//! What drivers and poolers say of their own accord, and are used to hear in return: nothing of it has an
//! effect on the proxy.

use super::encode::Shape;
use super::{DATABASE, PARAMETERS};
use crate::command::{Type, Value};
use crate::exec::clients::Client;

/// An answer out of kindness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Courtesy {
    /// The command tag.
    pub(super) tag: &'static str,
    /// One column and its one value; none for a command without rows.
    pub(super) answer: Option<(Shape, Reply)>,
    pub(super) effect: Effect,
}

/// What it does to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Begin,
    End,
    ForgetStatements,
}

/// A value, or whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Value(Value),
    User,
    Pid,
}

impl Reply {
    pub(super) fn resolve(self, client: &Client) -> Value {
        match self {
            Self::Value(value) => value,
            Self::User => client.user.as_str().into(),
            Self::Pid => Value::Int(client.id().into()),
        }
    }
}

impl Courtesy {
    fn command(tag: &'static str, effect: Effect) -> Self {
        Self { tag, answer: None, effect }
    }

    fn value(tag: &'static str, name: &str, ty: Type, reply: Reply) -> Self {
        Self { tag, answer: Some((Shape::one(name, ty), reply)), effect: Effect::None }
    }

    pub(super) fn shape(&self) -> Shape {
        self.answer.as_ref().map_or_else(|| Shape::of(&[]), |(shape, _)| shape.clone())
    }
}

/// The answer to a statement, of which the first word and the whole in lower case are given; `None` when it
/// is not one of these.
pub(super) fn answer(first: &str, whole: &str) -> Option<Courtesy> {
    let command = |tag, effect| Some(Courtesy::command(tag, effect));
    match first {
        "set" => command("SET", Effect::None),
        "reset" => command("RESET", Effect::None),
        "begin" => command("BEGIN", Effect::Begin),
        "start" => command("START TRANSACTION", Effect::Begin),
        "commit" | "end" => command("COMMIT", Effect::End),
        "rollback" | "abort" if !whole.contains(" to ") => command("ROLLBACK", Effect::End),
        "savepoint" => command("SAVEPOINT", Effect::None),
        "release" => command("RELEASE", Effect::None),
        "discard" if whole.ends_with("all") => command("DISCARD ALL", Effect::ForgetStatements),
        "discard" => command("DISCARD", Effect::None),
        "deallocate" => command("DEALLOCATE ALL", Effect::ForgetStatements),
        "close" => command("CLOSE CURSOR ALL", Effect::None),
        "unlisten" => command("UNLISTEN", Effect::None),
        "select" => select(whole),
        "show" => setting(whole.strip_prefix("show ")?),
        _ => None,
    }
}

fn select(whole: &str) -> Option<Courtesy> {
    let what = whole.strip_prefix("select ")?.replace("pg_catalog.", "");
    let (what, alias) = match what.split_once(" as ") {
        Some((what, alias)) => (what.trim().to_owned(), Some(alias.trim().replace('"', ""))),
        None => (what.trim().to_owned(), None),
    };
    let text = |text: &str| (Type::Text, Reply::Value(text.into()));
    let (name, (ty, reply)) = match what.as_str() {
        "version()" => (
            "version",
            text(concat!("PostgreSQL 15.0 (pgmeridian ", env!("CARGO_PKG_VERSION"), " console)")),
        ),
        "current_database()" => ("current_database", text(DATABASE)),
        "current_catalog" => ("current_catalog", text(DATABASE)),
        "current_schema" | "current_schema()" => ("current_schema", text("public")),
        "current_user" => ("current_user", (Type::Text, Reply::User)),
        "user" | "session_user" => ("session_user", (Type::Text, Reply::User)),
        "pg_backend_pid()" => ("pg_backend_pid", (Type::Int4, Reply::Pid)),
        "pg_is_in_recovery()" => {
            ("pg_is_in_recovery", (Type::Bool, Reply::Value(Value::Bool(false))))
        }
        "pg_advisory_unlock_all()" => ("pg_advisory_unlock_all", text("")),
        number => {
            let number = number.parse::<i32>().ok()?;
            ("?column?", (Type::Int4, Reply::Value(Value::Int(number.into()))))
        }
    };
    Some(Courtesy::value("SELECT", alias.as_deref().unwrap_or(name), ty, reply))
}

/// Settings that drivers ask for.
fn setting(name: &str) -> Option<Courtesy> {
    let name = match name.trim() {
        "time zone" => "timezone",
        "transaction isolation level" => "transaction_isolation",
        other => other,
    };
    let told = PARAMETERS.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
    let value = match (told, name) {
        (Some((_, value)), _) => value,
        (None, "transaction_isolation" | "default_transaction_isolation") => "read committed",
        (None, "transaction_read_only" | "default_transaction_read_only" | "in_hot_standby") => {
            "off"
        }
        (None, "application_name") => "",
        (None, "server_version_num") => "150000",
        (None, "max_identifier_length") => "63",
        (None, "search_path") => "public",
        (None, "lc_collate" | "lc_ctype") => "C",
        (None, "statement_timeout" | "lock_timeout") => "0",
        (None, "extra_float_digits") => "1",
        (None, "bytea_output") => "hex",
        (None, "jit") => "off",
        (None, _) => return None,
    };
    Some(Courtesy::value("SHOW", name, Type::Text, Reply::Value(value.into())))
}
