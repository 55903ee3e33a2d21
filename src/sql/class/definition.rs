//! Statements that define things, and the command tags that PostgreSQL answers them with.

use super::Class;
use super::words::Words;

/// A kind of object, with the tags of CREATE, ALTER and DROP.
struct Object {
    words: &'static [&'static str],
    tags: [&'static str; 3],
    cluster_wide: bool,
}

const CREATE: usize = 0;
const ALTER: usize = 1;
const DROP: usize = 2;

macro_rules! object {
    ($name:literal, $($word:literal)+) => {
        Object {
            words: &[$($word),+],
            tags: [concat!("CREATE ", $name), concat!("ALTER ", $name), concat!("DROP ", $name)],
            cluster_wide: false,
        }
    };
    (cluster $name:literal, $($word:literal)+) => {
        Object { cluster_wide: true, ..object!($name, $($word)+) }
    };
}

/// Kinds of objects; one that starts with another's words comes first.
static OBJECTS: &[Object] = &[
    object!("TABLE", "table"),
    object!("INDEX", "index"),
    object!("VIEW", "view"),
    object!("SEQUENCE", "sequence"),
    object!("FUNCTION", "function"),
    object!("PROCEDURE", "procedure"),
    object!("TYPE", "type"),
    object!("TRIGGER", "trigger"),
    object!("SCHEMA", "schema"),
    object!("EXTENSION", "extension"),
    object!("MATERIALIZED VIEW", "materialized" "view"),
    object!("ACCESS METHOD", "access" "method"),
    object!("AGGREGATE", "aggregate"),
    object!("CAST", "cast"),
    object!("COLLATION", "collation"),
    object!("CONVERSION", "conversion"),
    object!("DEFAULT PRIVILEGES", "default" "privileges"),
    object!("DOMAIN", "domain"),
    object!("EVENT TRIGGER", "event" "trigger"),
    object!("FOREIGN DATA WRAPPER", "foreign" "data" "wrapper"),
    object!("FOREIGN TABLE", "foreign" "table"),
    object!("LANGUAGE", "language"),
    object!("LARGE OBJECT", "large" "object"),
    object!("OPERATOR CLASS", "operator" "class"),
    object!("OPERATOR FAMILY", "operator" "family"),
    object!("OPERATOR", "operator"),
    object!("OWNED", "owned"),
    object!("POLICY", "policy"),
    object!("PUBLICATION", "publication"),
    object!("ROUTINE", "routine"),
    object!("RULE", "rule"),
    object!("SERVER", "server"),
    object!("STATISTICS", "statistics"),
    object!("SUBSCRIPTION", "subscription"),
    object!("TEXT SEARCH CONFIGURATION", "text" "search" "configuration"),
    object!("TEXT SEARCH DICTIONARY", "text" "search" "dictionary"),
    object!("TEXT SEARCH PARSER", "text" "search" "parser"),
    object!("TEXT SEARCH TEMPLATE", "text" "search" "template"),
    object!("TRANSFORM", "transform"),
    object!("USER MAPPING", "user" "mapping"),
    object!(cluster "DATABASE", "database"),
    object!(cluster "ROLE", "role"),
    object!(cluster "ROLE", "user"),
    object!(cluster "ROLE", "group"),
    object!(cluster "TABLESPACE", "tablespace"),
    object!(cluster "SYSTEM", "system"),
];

fn object(words: &mut Words<'_>) -> Option<&'static Object> {
    OBJECTS.iter().find(|object| words.take_all(object.words))
}

/// By the first word, which has been taken; `None` if it defines nothing.
pub(super) fn by_first_word(first: &str, words: &mut Words<'_>) -> Option<Class> {
    Some(match first {
        "create" => create(words)?,
        "alter" => any(words, ALTER)?,
        "drop" => any(words, DROP)?,
        "grant" => privilege(words, "GRANT", "GRANT ROLE"),
        "revoke" => privilege(words, "REVOKE", "REVOKE ROLE"),
        "comment" => on_object(words, "COMMENT"),
        "security" if words.take("label") => on_object(words, "SECURITY LABEL"),
        "reassign" => plain("REASSIGN OWNED"),
        "import" => plain("IMPORT FOREIGN SCHEMA"),
        _ => return None,
    })
}

fn plain(tag: &'static str) -> Class {
    Class::Definition { tag, temporary: false, from_query: false, name: None }
}

fn any(words: &mut Words<'_>, verb: usize) -> Option<Class> {
    let object = object(words)?;
    let tag = *object.tags.get(verb)?;
    Some(if object.cluster_wide { Class::ClusterWide { tag } } else { plain(tag) })
}

/// What follows CREATE.
fn create(words: &mut Words<'_>) -> Option<Class> {
    let temporary = modifiers(words);
    let object = object(words)?;
    let tag = *object.tags.get(CREATE)?;
    if object.cluster_wide {
        return Some(Class::ClusterWide { tag });
    }
    let (own_schema, name) = temporary_name(words);
    let temporary = temporary || own_schema;
    let from_query = match tag {
        "CREATE MATERIALIZED VIEW" => true,
        "CREATE TABLE" => words.has("as"),
        _ => false,
    };
    let name = name.filter(|_| temporary).map(String::into_boxed_str);
    Some(Class::Definition { tag, temporary, from_query, name })
}

/// The words between CREATE and the kind of object; says whether TEMP was one of them. Which of them go
/// together is PostgreSQL's to check.
fn modifiers(words: &mut Words<'_>) -> bool {
    const IGNORED: [&str; 8] = [
        "global",
        "local",
        "unlogged",
        "unique",
        "recursive",
        "constraint",
        "trusted",
        "procedural",
    ];
    let mut temporary = false;
    loop {
        if words.take("temp") || words.take("temporary") {
            temporary = true;
        } else if !words.take_all(&["or", "replace"])
            && !IGNORED.iter().any(|word| words.take(word))
            && !is_default_conversion(words)
        {
            return temporary;
        }
    }
}

/// Takes the DEFAULT of CREATE DEFAULT CONVERSION.
fn is_default_conversion(words: &mut Words<'_>) -> bool {
    let mut second = words.clone();
    second.take("default") && second.is("conversion") && words.take("default")
}

/// Whether the object's name is qualified with the session's own schema, and the name without it.
fn temporary_name(words: &Words<'_>) -> (bool, Option<String>) {
    let mut words = words.clone();
    words.take_all(&["if", "not", "exists"]);
    let Some(name) = words.name() else { return (false, None) };
    if !words.take_symbol(".") {
        return (false, Some(name));
    }
    (name == "pg_temp", words.name())
}

/// GRANT and REVOKE: privileges ON something, or membership in roles.
fn privilege(words: &Words<'_>, tag: &'static str, role_tag: &'static str) -> Class {
    if words.has("on") { on_object(words, tag) } else { Class::ClusterWide { tag: role_tag } }
}

/// A statement ON an object, which may be one of the whole cluster.
fn on_object(words: &Words<'_>, tag: &'static str) -> Class {
    const CLUSTER_WIDE: [&str; 4] = ["database", "role", "tablespace", "parameter"];
    let mut words = words.clone();
    while !words.take("on") {
        if words.take_any().is_none() {
            return plain(tag);
        }
    }
    // A table may be called role: then its name ends here, or goes on with a dot.
    let mut object = words.clone();
    let named = CLUSTER_WIDE.iter().any(|word| object.take(word));
    if named && object.is_name() && !["to", "from", "is"].iter().any(|word| object.is(word)) {
        return Class::ClusterWide { tag };
    }
    plain(tag)
}
