//! What a client has SET, and what of it a connection must be told.
//!
//! A client's settings are a small ordered map from name to the text that sets it. Equal maps share one
//! number ([`Settings::id`]), so that the hot path compares two integers: the client's and that of the
//! connection it was given. Only on a difference is the connection brought up to date, with
//! [`Settings::replay`]. Changes follow the transaction as in PostgreSQL: `SET` is undone by ROLLBACK,
//! `SET LOCAL` by the end of the transaction, both by ROLLBACK TO an earlier savepoint.
//!
//! The proxy's own settings (`pgmeridian.key` and the like) go the same ways, but no connection is told of
//! them, and they make no difference between two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::sql::quote::quote_identifier;

/// Names and the SQL text of their values, as it stands after `SET name TO`.
type Values = BTreeMap<String, String>;

/// What the proxy's own settings begin with.
const OWN: &str = "pgmeridian.";

/// An immutable set of settings; what connections are told is equal where the ids are.
#[derive(Clone, Debug)]
pub struct Settings {
    shared: Arc<Shared>,
    /// The proxy's own, if there are any: names, and values as they are.
    own: Option<Arc<Values>>,
}

#[derive(Debug)]
struct Shared {
    id: u64,
    values: Values,
}

/// Who the session is: set in this order, for the first one undoes the second.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

/// From so many distinct combinations on, those that no session has any more are forgotten now and then: a
/// server sees a handful, and clients that make up names must not grow the table for ever. A connection that
/// was told of a forgotten one is told again.
const INTERNED_MANY: usize = 1024;

/// All combinations by content, so that equal ones have the same number.
struct Table {
    known: HashMap<Values, Settings>,
    /// When it is this large, it is looked through.
    sweep_at: usize,
}

impl Table {
    fn add(&mut self, values: Values, settings: Settings) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, settings| Arc::strong_count(&settings.shared) > 1);
            self.known.shrink_to(2 * self.known.len());
            self.sweep_at = INTERNED_MANY.max(2 * self.known.len());
        }
        self.known.insert(values, settings);
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { id: 0, values: Values::new() }), own: None }
    }
}

impl Settings {
    /// The number shared by all settings that connections are told the same of; 0 for none.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The value text of a setting.
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = if name.starts_with(OWN) { self.own.as_deref()? } else { &self.shared.values };
        values.get(name).map(String::as_str)
    }

    /// None of the proxy's own settings is set.
    pub fn is_servers_alone(&self) -> bool {
        self.own.is_none()
    }

    /// With one more (or another) value; `value` is SQL text as it stands after `SET name TO`, for one of the
    /// proxy's own the value itself.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        self.changed(name, |values| {
            values.insert(name.to_owned(), value.to_owned());
        })
    }

    /// Without a setting.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        self.changed(name, |values| {
            values.remove(name);
        })
    }

    fn changed(&self, name: &str, change: impl FnOnce(&mut Values)) -> Self {
        if name.starts_with(OWN) {
            let mut own = self.own.as_deref().cloned().unwrap_or_default();
            change(&mut own);
            let own = (!own.is_empty()).then(|| Arc::new(own));
            return Self { shared: Arc::clone(&self.shared), own };
        }
        let mut values = self.shared.values.clone();
        change(&mut values);
        Self { own: self.own.clone(), ..Self::intern(values) }
    }

    /// Names and values of what connections are told, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shared.values.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The SQL that brings a connection from whatever was set on it to these settings.
    pub fn replay(&self) -> String {
        let mut sql = String::from("RESET SESSION AUTHORIZATION; RESET ALL");
        let values = &self.shared.values;
        let identity = IDENTITY.iter().filter_map(|name| values.get_key_value(*name));
        let others = values.iter().filter(|(name, _)| !IDENTITY.contains(&name.as_str()));
        for (name, value) in others.chain(identity) {
            sql.push_str("; ");
            sql.push_str(&set_sql(name, value, false));
        }
        sql
    }

    fn intern(values: Values) -> Self {
        static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        if values.is_empty() {
            return Self::default();
        }
        let empty = || Mutex::new(Table { known: HashMap::new(), sweep_at: INTERNED_MANY });
        let mut table = TABLE.get_or_init(empty).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.known.get(&values) {
            return known.clone();
        }
        let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let settings = Self { shared: Arc::new(Shared { id, values: values.clone() }), own: None };
        table.add(values, settings.clone());
        settings
    }
}

/// The statement that sets a setting.
pub fn set_sql(name: &str, value: &str, local: bool) -> String {
    let mut sql = String::from(if local { "SET LOCAL " } else { "SET " });
    push_name(&mut sql, name);
    sql.push_str(" TO ");
    sql.push_str(value);
    sql
}

/// A setting's name as SQL: each part is quoted unless it is plain. (A part of a name with several may be a
/// reserved word.)
fn push_name(sql: &mut String, name: &str) {
    let several = name.contains('.');
    for (i, part) in name.split('.').enumerate() {
        if i > 0 {
            sql.push('.');
        }
        let plain = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && part.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if plain && !several {
            sql.push_str(part);
        } else {
            sql.push_str(&quote_identifier(part));
        }
    }
}

/// `SET datestyle` may name a style, an order of day and month, or both; what it does not name stays as it
/// was (`check_datestyle`). Both texts are as they stand after `SET datestyle TO`.
fn date_style(before: &str, now: &str) -> String {
    let (style_before, order_before) = style_and_order(before);
    let (style, order) = style_and_order(now);
    match (style.or(style_before), order.or(order_before)) {
        (Some(style), Some(order)) => format!("'{style}, {order}'"),
        (Some(only), None) | (None, Some(only)) => format!("'{only}'"),
        // Not what PostgreSQL knows by heart, such as DEFAULT in quotes.
        (None, None) => now.to_owned(),
    }
}

/// The words of a `datestyle`; an order that German brings along is an order.
fn style_and_order(text: &str) -> (Option<&'static str>, Option<&'static str>) {
    let (mut style, mut order, mut implied) = (None, None, None);
    for word in text.split(|c: char| !c.is_ascii_alphabetic()).map(str::to_ascii_lowercase) {
        match word.as_str() {
            "iso" => style = Some("ISO"),
            "sql" => style = Some("SQL"),
            "german" => (style, implied) = (Some("German"), Some("DMY")),
            word if word.starts_with("postgres") => style = Some("Postgres"),
            "ymd" => order = Some("YMD"),
            "dmy" => order = Some("DMY"),
            word if word.starts_with("euro") => order = Some("DMY"),
            "mdy" | "us" => order = Some("MDY"),
            word if word.starts_with("noneuro") => order = Some("MDY"),
            _ => {}
        }
    }
    (style, order.or(implied))
}

/// A session's settings of the proxy's own, as they once were.
#[derive(Clone, Debug)]
pub struct OwnSettings {
    current: Option<Arc<Values>>,
    session: Option<Arc<Values>>,
}

/// A session's settings through transactions and savepoints.
#[derive(Clone, Debug, Default)]
pub struct SessionSettings {
    /// As the start-up packet set them: what RESET goes back to.
    startup: Settings,
    /// What the session has now, SET LOCAL included.
    current: Settings,
    /// What it has when the transaction commits.
    session: Settings,
    /// At BEGIN: what ROLLBACK goes back to.
    at_begin: Option<Settings>,
    /// At each savepoint, with its name: `current` and `session`.
    savepoints: Vec<(String, Settings, Settings)>,
    /// What else the transaction was told (SET TRANSACTION, SET CONSTRAINTS), each with the number of
    /// savepoints before it.
    said: Vec<(usize, String)>,
}

impl SessionSettings {
    /// A session that starts with these.
    pub fn new(startup: Settings) -> Self {
        Self {
            current: startup.clone(),
            session: startup.clone(),
            startup,
            at_begin: None,
            savepoints: Vec::new(),
            said: Vec::new(),
        }
    }

    /// What holds now.
    pub fn current(&self) -> &Settings {
        &self.current
    }

    /// What holds outside the transaction once it has committed.
    pub fn committed(&self) -> &Settings {
        &self.session
    }

    /// What a connection has that no transaction was begun on.
    pub fn outside(&self) -> &Settings {
        self.at_begin.as_ref().unwrap_or(&self.session)
    }

    /// The proxy's own settings, to go back to.
    pub fn own(&self) -> OwnSettings {
        OwnSettings { current: self.current.own.clone(), session: self.session.own.clone() }
    }

    /// What was done to the proxy's own settings since is undone.
    pub fn restore_own(&mut self, before: OwnSettings) {
        self.current.own = before.current;
        self.session.own = before.session;
    }

    /// A statement about the open transaction that is no setting with a value.
    pub fn say(&mut self, sql: &str) {
        if self.in_block() {
            self.said.push((self.savepoints.len(), sql.to_owned()));
        }
    }

    /// The transaction was told something that is no setting with a value.
    pub fn has_said(&self) -> bool {
        !self.said.is_empty()
    }

    /// What it was told is undone with it.
    pub fn unsay(&mut self) {
        self.said.clear();
    }

    /// What a connection that has [`Self::outside`] must be told after BEGIN to be where the transaction
    /// is: its settings and its savepoints.
    pub fn late_script(&self) -> Vec<String> {
        let Some(begin) = &self.at_begin else { return Vec::new() };
        let mut script = Vec::new();
        let mut known = (begin, begin);
        for (depth, (name, current, session)) in self.savepoints.iter().enumerate() {
            changes(known, (current, session), &mut script);
            script.extend(self.said_at(depth));
            script.push(format!("SAVEPOINT {}", quote_identifier(name)));
            known = (current, session);
        }
        changes(known, (&self.current, &self.session), &mut script);
        script.extend(self.said_at(self.savepoints.len()));
        script
    }

    fn said_at(&self, depth: usize) -> impl Iterator<Item = String> {
        self.said.iter().filter(move |(at, _)| *at == depth).map(|(_, sql)| sql.clone())
    }

    /// `SET name TO value`, or TO DEFAULT with `None`.
    pub fn set(&mut self, name: &str, value: Option<&str>, local: bool) {
        let apply = |settings: &Settings, startup: &Settings| {
            let settings = match value.or_else(|| startup.value(name)) {
                Some(value) if name == "datestyle" => match settings.value(name) {
                    Some(before) => settings.with(name, &date_style(before, value)),
                    None => settings.with(name, value),
                },
                Some(value) => settings.with(name, value),
                None => settings.without(name),
            };
            // Another user begins without a role (`assign_session_authorization`).
            if name == "session_authorization" { settings.without("role") } else { settings }
        };
        self.current = apply(&self.current, &self.startup);
        if !local {
            self.session = apply(&self.session, &self.startup);
        }
    }

    /// `RESET ALL`, which leaves the role alone (`GUC_NO_RESET_ALL`).
    pub fn reset_all(&mut self) {
        let reset = |settings: &Settings, startup: &Settings| {
            IDENTITY.iter().fold(startup.clone(), |kept, name| match settings.value(name) {
                Some(value) => kept.with(name, value),
                None => kept,
            })
        };
        self.current = reset(&self.current, &self.startup);
        self.session = reset(&self.session, &self.startup);
    }

    /// A server that is told to reset a setting (all of them with `None`) goes back to its own default:
    /// what it must be told behind that, so that it goes back to where this session began.
    pub fn after_reset(&self, name: Option<&str>, local: bool) -> Vec<String> {
        let concerned = |own: &str| match name {
            Some(name) => own == name,
            None => !IDENTITY.contains(&own),
        };
        let settings = self.startup.iter().filter(|(own, _)| concerned(own));
        settings.map(|(own, value)| set_sql(own, value, local)).collect()
    }

    /// `DISCARD ALL`: the role too.
    pub fn discard(&mut self) {
        self.current = self.startup.clone();
        self.session = self.startup.clone();
    }

    /// A transaction block begins.
    pub fn begin(&mut self) {
        self.at_begin = Some(self.session.clone());
        self.savepoints.clear();
        self.said.clear();
    }

    /// A transaction block begins within an implicit transaction that began with `before`: ROLLBACK
    /// undoes that too.
    pub fn begin_within(&mut self, before: &Self) {
        self.at_begin = Some(before.session.clone());
        self.savepoints.clear();
        self.said.clear();
    }

    /// In a transaction block.
    pub fn in_block(&self) -> bool {
        self.at_begin.is_some()
    }

    /// The transaction block ended.
    pub fn end(&mut self, committed: bool) {
        let before = self.at_begin.take();
        if let (false, Some(before)) = (committed, before) {
            self.session = before;
        }
        self.current = self.session.clone();
        self.savepoints.clear();
        self.said.clear();
    }

    /// SAVEPOINT.
    pub fn savepoint(&mut self, name: &str) {
        self.savepoints.push((name.to_owned(), self.current.clone(), self.session.clone()));
    }

    /// ROLLBACK TO.
    pub fn rollback_to(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().rposition(|(n, ..)| n == name) {
            self.savepoints.truncate(at + 1);
            self.said.retain(|(depth, _)| *depth <= at);
            if let Some((_, current, session)) = self.savepoints.last() {
                self.current = current.clone();
                self.session = session.clone();
            }
        }
    }

    /// RELEASE.
    pub fn release(&mut self, name: &str) {
        if let Some(at) = self.savepoints.iter().rposition(|(n, ..)| n == name) {
            self.savepoints.truncate(at);
            self.said.iter_mut().for_each(|(depth, _)| *depth = at.min(*depth));
        }
    }
}

/// The statements that lead from one pair of settings (`current`, `session`) to another.
fn changes(from: (&Settings, &Settings), to: (&Settings, &Settings), script: &mut Vec<String>) {
    if from.0.id() == to.0.id() && from.1.id() == to.1.id() {
        return;
    }
    let every = [from.0, from.1, to.0, to.1];
    let names: BTreeSet<&str> = every.iter().flat_map(|s| s.iter().map(|(name, _)| name)).collect();
    let identity = IDENTITY.iter().copied().filter(|name| names.contains(name));
    let others = names.iter().copied().filter(|name| !IDENTITY.contains(name));
    for name in others.chain(identity) {
        let mut tell = |verb: &str, value: Option<&str>| {
            let mut sql = format!("{verb} ");
            push_name(&mut sql, name);
            sql.push_str(" TO ");
            sql.push_str(value.unwrap_or("DEFAULT"));
            script.push(sql);
        };
        let mut has = from.0.value(name);
        if from.1.value(name) != to.1.value(name) {
            has = to.1.value(name);
            tell("SET", has);
        }
        if has != to.0.value(name) {
            tell("SET LOCAL", to.0.value(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::quote::quote_literal;

    #[test]
    fn equal_settings_share_a_number() {
        let a = Settings::default().with("timezone", "'UTC'").with("datestyle", "'ISO'");
        let b = Settings::default().with("datestyle", "'ISO'").with("timezone", "'UTC'");
        assert_eq!(a.id(), b.id());
        assert_ne!(a.id(), a.without("timezone").id());
        assert_eq!(a.without("timezone").without("datestyle").id(), 0);
    }

    #[test]
    fn settings_that_no_session_has_any_more_are_forgotten() {
        let mut table = Table { known: HashMap::new(), sweep_at: INTERNED_MANY };
        let mut kept = Vec::new();
        for id in 0..20_000 {
            let values = Values::from([("application_name".to_owned(), format!("'{id}'"))]);
            let settings =
                Settings { shared: Arc::new(Shared { id, values: values.clone() }), own: None };
            if id % 100 == 0 {
                kept.push(settings.clone());
            }
            table.add(values, settings);
        }
        assert!(table.known.len() <= 2 * INTERNED_MANY, "{}", table.known.len());
        assert!(kept.iter().all(|settings| table.known.contains_key(&settings.shared.values)));
    }

    #[test]
    fn replay_quotes_what_needs_it() {
        let s = Settings::default().with("My.odd name", quote_literal("it's \\ here").as_str());
        assert_eq!(
            s.replay(),
            "RESET SESSION AUTHORIZATION; RESET ALL; SET \"My\".\"odd name\" TO E'it''s \\\\ here'"
        );
    }

    #[test]
    fn rollback_undoes_set_and_commit_undoes_set_local() {
        let mut s = SessionSettings::default();
        s.begin();
        s.set("timezone", Some("'UTC'"), false);
        s.set("work_mem", Some("'1MB'"), true);
        assert_eq!(s.current().value("work_mem"), Some("'1MB'"));
        s.end(true);
        assert_eq!(s.current().value("work_mem"), None);
        assert_eq!(s.current().value("timezone"), Some("'UTC'"));
        s.begin();
        s.set("timezone", Some("'CET'"), false);
        s.end(false);
        assert_eq!(s.current().value("timezone"), Some("'UTC'"));
    }

    #[test]
    fn half_a_date_style_leaves_the_other_half() {
        let check = |startup: &[&str], sets: &[&str], expect: &str| {
            let startup = startup.iter().fold(Settings::default(), |s, v| s.with("datestyle", v));
            let mut s = SessionSettings::new(startup);
            for value in sets {
                s.set("datestyle", Some(value), false);
            }
            assert_eq!(s.current().value("datestyle"), Some(expect));
        };
        check(&["'Postgres, MDY'"], &["'ymd'"], "'Postgres, YMD'");
        check(&["'Postgres, MDY'"], &["ISO, ymd"], "'ISO, YMD'");
        check(&["'ISO'"], &["'dmy'"], "'ISO, DMY'");
        check(&[], &["'dmy'", "'sql'"], "'SQL, DMY'");
        check(&["'ISO, MDY'"], &["'German'"], "'German, DMY'");
        check(&["'ISO, MDY'"], &["'German, us'"], "'German, MDY'");
        check(&["'ISO, MDY'"], &["'postgresql,european'"], "'Postgres, DMY'");
        check(&[], &["'ymd'"], "'ymd'");
    }

    #[test]
    fn the_role_outlives_reset_all() {
        let mut s = SessionSettings::default();
        s.set("role", Some("'writer'"), false);
        s.set("session_authorization", Some("'app'"), false);
        assert_eq!(s.current().value("role"), None);
        s.set("role", Some("'reader'"), false);
        s.set("work_mem", Some("'1MB'"), false);
        let replay = s.current().replay();
        let all =
            "; SET work_mem TO '1MB'; SET session_authorization TO 'app'; SET role TO 'reader'";
        assert!(replay.ends_with(all), "{replay}");
        s.reset_all();
        assert_eq!(s.current().value("role"), Some("'reader'"));
        assert_eq!(s.current().value("work_mem"), None);
        s.discard();
        assert_eq!(s.current().id(), 0);
    }

    #[test]
    fn rollback_to_a_savepoint_goes_back_to_it() {
        let mut s = SessionSettings::default();
        s.begin();
        s.savepoint("a");
        s.set("timezone", Some("'CET'"), false);
        s.rollback_to("a");
        assert_eq!(s.current().id(), 0);
        s.set("timezone", Some("'MET'"), false);
        s.release("a");
        s.end(true);
        assert_eq!(s.current().value("timezone"), Some("'MET'"));
    }

    #[test]
    fn reset_goes_back_to_the_start_up_value() {
        let mut s = SessionSettings::new(Settings::default().with("timezone", "'UTC'"));
        s.set("timezone", Some("'CET'"), false);
        s.set("timezone", None, false);
        assert_eq!(s.current().value("timezone"), Some("'UTC'"));
        assert_eq!(s.after_reset(Some("timezone"), false), ["SET timezone TO 'UTC'"]);
        assert_eq!(s.after_reset(None, false), ["SET timezone TO 'UTC'"]);
        assert!(s.after_reset(Some("work_mem"), false).is_empty());
    }

    #[test]
    fn the_proxys_own_settings_follow_the_transaction_and_are_told_to_nobody() {
        const KEY: &str = "pgmeridian.key";
        let mut s = SessionSettings::new(Settings::default().with(KEY, "1"));
        assert!(s.current().id() == 0 && !s.current().is_servers_alone());
        let key = |s: &SessionSettings| s.current().value(KEY).map(str::to_owned);
        s.begin();
        s.set(KEY, Some("2"), false);
        s.savepoint("a");
        s.set(KEY, Some("3"), true);
        s.set("timezone", Some("'UTC'"), false);
        assert_eq!(key(&s).as_deref(), Some("3"));
        assert_eq!(s.late_script(), ["SAVEPOINT \"a\"", "SET timezone TO 'UTC'"]);
        s.rollback_to("a");
        assert_eq!(key(&s).as_deref(), Some("2"));
        s.end(false);
        assert_eq!(key(&s).as_deref(), Some("1"));
        // RESET goes back to where the session began.
        for reset in [
            |s: &mut SessionSettings| s.set(KEY, None, false),
            SessionSettings::reset_all,
            SessionSettings::discard,
        ] {
            s.set(KEY, Some("2"), false);
            s.set("role", Some("'r'"), false);
            reset(&mut s);
            assert_eq!(key(&s).as_deref(), Some("1"));
        }
        assert!(Settings::default().with(KEY, "1").without(KEY).is_servers_alone());
    }

    #[test]
    fn a_connection_that_comes_late_is_told_what_the_others_were() {
        let mut s = SessionSettings::default();
        s.set("timezone", Some("'UTC'"), false);
        s.begin();
        assert!(s.late_script().is_empty());
        s.say("SET TRANSACTION READ ONLY");
        s.set("work_mem", Some("'1MB'"), true);
        s.savepoint("a");
        s.set("timezone", Some("'CET'"), false);
        s.savepoint("B");
        s.set("timezone", None, false);
        s.say("SET CONSTRAINTS ALL DEFERRED");
        let script = [
            "SET LOCAL work_mem TO '1MB'",
            "SET TRANSACTION READ ONLY",
            "SAVEPOINT \"a\"",
            "SET timezone TO 'CET'",
            "SAVEPOINT \"B\"",
            "SET timezone TO DEFAULT",
            "SET CONSTRAINTS ALL DEFERRED",
        ];
        assert_eq!(s.late_script(), script);
        assert_eq!(s.outside().value("timezone"), Some("'UTC'"));
        s.release("B");
        assert_eq!(s.late_script()[3..], ["SET timezone TO DEFAULT", script[6]]);
        s.rollback_to("a");
        assert_eq!(s.late_script(), script[..3]);
        s.end(false);
        assert!(s.late_script().is_empty());
        assert_eq!(s.outside().value("timezone"), Some("'UTC'"));
    }
}
