//! Connection URLs, read as libpq reads them (PostgreSQL manual, "Connection URIs").
//!
//! Main types: [`ConnectionTarget`], [`Password`], which prints as stars wherever it could be printed.
//! Deliberately absent: several hosts in one URL (replicas have a field of their own), password files and
//! service files.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory of a Unix-domain socket.
    Unix(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => f.write_str(host),
            Self::Unix(directory) => write!(f, "{}", directory.display()),
        }
    }
}

/// A password: neither `Debug` nor anything else prints it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(String);

impl Password {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `sslmode` (PostgreSQL manual, "SSL Mode Descriptions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server can.
    #[default]
    Prefer,
    /// Always; the certificate isn't checked unless a root certificate is given.
    Require,
    /// Always; the certificate must be signed by a trusted authority.
    VerifyCa,
    /// Always; the certificate must also bear the host's name.
    VerifyFull,
}

impl SslMode {
    const NAMES: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    /// libpq's word for it.
    pub fn word(self) -> &'static str {
        Self::NAMES.iter().find(|(_, mode)| *mode == self).map_or("prefer", |(word, _)| word)
    }

    /// It accepts a connection without TLS.
    pub fn allows_plaintext(self) -> bool {
        matches!(self, Self::Disable | Self::Allow | Self::Prefer)
    }
}

/// A server, a database, and who connects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionTarget {
    /// Where.
    pub host: Host,
    /// Which port; for a Unix-domain socket too, it is part of the socket's name.
    pub port: u16,
    /// Who.
    pub user: String,
    /// With which password.
    pub password: Option<Password>,
    /// Which database.
    pub dbname: String,
    /// TLS or not.
    pub sslmode: SslMode,
    /// Other libpq parameters of the URL (`sslrootcert`, `application_name`, `connect_timeout` …), in order.
    pub params: Vec<(String, String)>,
}

/// libpq's parameters that may stand in a URL and that end up in [`ConnectionTarget::params`].
const PARAMS: [&str; 17] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "options",
    "require_auth",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// What is wrong with a URL. The text never quotes a user or a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUrl {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl BadUrl {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Parts as they are found; later ones win, as in libpq.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    dbname: Option<String>,
    sslmode: Option<String>,
    params: Vec<(String, String)>,
}

impl ConnectionTarget {
    /// Whether both lead to one database, whoever connects.
    pub fn is_same_database(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.dbname) == (&other.host, other.port, &other.dbname)
    }

    /// Reads `postgresql://user:password@host:port/dbname?param=value`. What is missing is taken from
    /// `PGHOST`, `PGPORT`, `PGUSER` and `PGDATABASE` as in libpq.
    ///
    /// # Errors
    ///
    /// [`BadUrl`], without any secret.
    pub fn parse(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, BadUrl> {
        let Some(rest) =
            url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://"))
        else {
            return Err(BadUrl::new("not a PostgreSQL URL")
                .hint("write postgresql://user:password@host:port/dbname"));
        };
        let mut parts = Parts::default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, dbname) = match rest.split_once('/') {
            Some((authority, dbname)) => (authority, Some(dbname)),
            None => (rest, None),
        };
        if let Some(dbname) = dbname.filter(|name| !name.is_empty()) {
            parts.dbname = Some(decode(dbname)?);
        }
        parts.read_authority(authority)?;
        parts.read_query(query)?;
        parts.finish(env)
    }
}

impl Parts {
    fn read_authority(&mut self, authority: &str) -> Result<(), BadUrl> {
        let host_and_port = match authority.rsplit_once('@') {
            Some((user, rest)) => {
                let (user, password) = match user.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (user, None),
                };
                self.user = Some(decode(user)?).filter(|user| !user.is_empty());
                self.password = password.map(decode).transpose()?.filter(|p| !p.is_empty());
                rest
            }
            None => authority,
        };
        if host_and_port.contains(',') {
            return Err(BadUrl::new("several hosts in one URL")
                .hint("a shard is one server; list its read replicas under replicas"));
        }
        let (host, port) = if let Some(inner) = host_and_port.strip_prefix('[') {
            let Some((address, after)) = inner.split_once(']') else {
                return Err(BadUrl::new("the IPv6 address has no closing bracket"));
            };
            match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if after.is_empty() => (address, None),
                None => return Err(BadUrl::new("unexpected text after the IPv6 address")),
            }
        } else {
            match host_and_port.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host_and_port, None),
            }
        };
        self.host = Some(decode(host)?).filter(|host| !host.is_empty());
        self.port = port.filter(|port| !port.is_empty()).map(decode).transpose()?;
        Ok(())
    }

    fn read_query(&mut self, query: &str) -> Result<(), BadUrl> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(BadUrl::new("a parameter without \"=\" after \"?\""));
            };
            let (name, value) = (decode(name)?, decode(value)?);
            match name.as_str() {
                "host" | "hostaddr" => self.host = Some(value),
                "port" => self.port = Some(value),
                "user" => self.user = Some(value),
                "password" => self.password = Some(value),
                "dbname" => self.dbname = Some(value),
                "sslmode" => self.sslmode = Some(value),
                // JDBC's spelling, which libpq takes too.
                "ssl" if value == "true" => self.sslmode = Some("require".to_owned()),
                known if PARAMS.contains(&known) => self.params.push((name, value)),
                unknown => {
                    let known =
                        PARAMS.into_iter().chain(["host", "port", "user", "dbname", "sslmode"]);
                    let mut bad = BadUrl::new("unknown connection parameter");
                    if let Some(near) = super::did_you_mean(unknown, known) {
                        bad = bad.hint(format!("did you mean {near}?"));
                    }
                    return Err(bad);
                }
            }
        }
        Ok(())
    }

    fn finish(self, env: &dyn Fn(&str) -> Option<String>) -> Result<ConnectionTarget, BadUrl> {
        let host = self.host.or_else(|| env("PGHOST")).unwrap_or_else(|| "localhost".to_owned());
        let host = if host.starts_with('/') { Host::Unix(host.into()) } else { Host::Tcp(host) };
        let port = self.port.or_else(|| env("PGPORT"));
        let port = match port.as_deref().map(str::parse::<u16>) {
            None => 5432,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err(BadUrl::new("the port is not a number from 1 to 65535")),
        };
        let Some(user) = self.user.or_else(|| env("PGUSER")).or_else(|| env("USER")) else {
            return Err(BadUrl::new("no user").hint("write postgresql://user@host/dbname"));
        };
        let dbname = self.dbname.or_else(|| env("PGDATABASE")).unwrap_or_else(|| user.clone());
        let system_roots = param(&self.params, "sslrootcert") == Some("system");
        let direct = param(&self.params, "sslnegotiation") == Some("direct");
        let sslmode = match &self.sslmode {
            // As in libpq: whoever trusts the whole world's authorities must look at names.
            None if system_roots => SslMode::VerifyFull,
            None => SslMode::default(),
            Some(name) => match SslMode::NAMES.iter().find(|(known, _)| known == name) {
                Some((_, mode)) => *mode,
                None => {
                    return Err(BadUrl::new("unknown sslmode").hint(
                        "sslmode is disable, allow, prefer, require, verify-ca or verify-full",
                    ));
                }
            },
        };
        if system_roots && sslmode != SslMode::VerifyFull {
            let message = format!(
                "weak sslmode \"{}\" may not be used with sslrootcert=system",
                sslmode.word()
            );
            return Err(BadUrl::new(message).hint("use sslmode=verify-full"));
        }
        if direct && sslmode.allows_plaintext() {
            let message = format!(
                "weak sslmode \"{}\" may not be used with sslnegotiation=direct",
                sslmode.word()
            );
            return Err(BadUrl::new(message).hint("use sslmode=require, verify-ca or verify-full"));
        }
        check_word(&self.params, "sslnegotiation", &["postgres", "direct"])?;
        check_word(&self.params, "channel_binding", &["disable", "prefer", "require"])?;
        let password = self.password.map(Password);
        Ok(ConnectionTarget { host, port, user, password, dbname, sslmode, params: self.params })
    }
}

/// A parameter's value; the last one wins.
fn param<'p>(params: &'p [(String, String)], wanted: &str) -> Option<&'p str> {
    let found = params.iter().rev().find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.as_str())
}

/// A parameter that must be one of some words, if it is there.
fn check_word(params: &[(String, String)], name: &str, words: &[&str]) -> Result<(), BadUrl> {
    match param(params, name) {
        Some(value) if !value.is_empty() && !words.contains(&value) => {
            Err(BadUrl::new(format!("unknown {name}"))
                .hint(format!("{name} is {}", words.join(" or "))))
        }
        _ => Ok(()),
    }
}

fn decode(text: &str) -> Result<String, BadUrl> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let escape = after.as_bytes().get(..2).unwrap_or_default();
        if escape.len() != 2 || !escape.iter().all(u8::is_ascii_hexdigit) {
            return Err(BadUrl::new("invalid percent-encoding").hint("write a literal % as %25"));
        }
        rest = after;
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(BadUrl::new("percent-encoding that is not UTF-8 text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(url: &str) -> String {
        let env = |name: &str| (name == "USER").then(|| "me".to_owned());
        match ConnectionTarget::parse(url, &env) {
            Ok(t) => {
                let password = t.password.as_ref().map_or("-", Password::reveal);
                let mut text = format!(
                    "{} {} {} {password} {} {:?}",
                    t.host, t.port, t.user, t.dbname, t.sslmode
                );
                for (name, value) in &t.params {
                    text = format!("{text} {name}={value}");
                }
                text
            }
            Err(bad) => bad.message,
        }
    }

    #[test]
    fn urls_read_as_in_libpq() {
        let check = |url: &str, expect: &str| assert_eq!(show(url), expect, "{url}");
        check("postgresql://bot:bot@127.0.0.1:5501/bots", "127.0.0.1 5501 bot bot bots Prefer");
        check("postgres://", "localhost 5432 me - me Prefer");
        check("postgresql://bot@/bots?host=/tmp/s&port=5502", "/tmp/s 5502 bot - bots Prefer");
        check("postgresql://bot@%2Fvar%2Frun:5433/bots", "/var/run 5433 bot - bots Prefer");
        check("postgresql://b:p%40s%3A%2F@h/d?sslmode=verify-full", "h 5432 b p@s:/ d VerifyFull");
        check("postgresql://b:p@s@h/d", "h 5432 b p@s d Prefer");
        check("postgresql://b@[::1]:6/d", "::1 6 b - d Prefer");
        check(
            "postgresql://b@h/d?sslrootcert=/c.pem&application_name=x%20y",
            "h 5432 b - d Prefer sslrootcert=/c.pem application_name=x y",
        );
        check("postgresql:///d?user=u&password=p&ssl=true", "localhost 5432 u p d Require");
        check("mysql://h/d", "not a PostgreSQL URL");
        check("postgresql://b@h:99999/d", "the port is not a number from 1 to 65535");
        check("postgresql://b@h:0/d", "the port is not a number from 1 to 65535");
        check("postgresql://b@a,b/d", "several hosts in one URL");
        check("postgresql://b:%zz@h/d", "invalid percent-encoding");
        check("postgresql://b:%ff@h/d", "percent-encoding that is not UTF-8 text");
        check("postgresql://b@h/d?sslmod=x", "unknown connection parameter");
        check("postgresql://b@h/d?sslmode=x", "unknown sslmode");
        check(
            "postgresql://b@h/d?sslrootcert=system",
            "h 5432 b - d VerifyFull sslrootcert=system",
        );
        check(
            "postgresql://b@h/d?sslrootcert=system&sslmode=require",
            "weak sslmode \"require\" may not be used with sslrootcert=system",
        );
        check(
            "postgresql://b@h/d?sslnegotiation=direct",
            "weak sslmode \"prefer\" may not be used with sslnegotiation=direct",
        );
        check("postgresql://b@h/d?channel_binding=maybe", "unknown channel_binding");
        check("postgresql://b@h/d?x", "a parameter without \"=\" after \"?\"");
        check("postgresql://b@[::1/d", "the IPv6 address has no closing bracket");
    }

    #[test]
    fn passwords_are_not_printed() {
        let target = ConnectionTarget::parse("postgresql://b:s3cret@h/d", &|_| None).unwrap();
        assert!(!format!("{target:?}").contains("s3cret"));
    }
}
