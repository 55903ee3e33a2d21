//! From text to [`Config`].

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::fault::{Fault, Faults};
use super::model::{
    AuthMethod, Breaker, Config, Health, Http, Limits, Listen, Log, LogFormat, Password, Pool,
    PoolMode, Tls, User,
};
use super::secret::Secret;
use super::section::{Reading, Section};
use crate::wire::scram::Verifier;

impl Config {
    /// Reads a file, with variables from the process's environment.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text, &|name| std::env::var(name).ok()),
            Err(error) => Err(Faults(vec![Fault {
                file,
                line: 0,
                column: 0,
                excerpt: None,
                message: format!("could not read the configuration: {error}"),
                hint: None,
            }])),
        }
    }

    /// Reads the text of a file. `file` is its name in faults, `env` the environment.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(
        file: &str,
        source: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Faults> {
        let mut reading = Reading { file, source, env, faults: Vec::new() };
        let (document, errors) = DeTable::parse_recoverable(source);
        for error in errors {
            reading.fault(error.span().unwrap_or(0..0), error.message(), None);
        }
        // What a faulty syntax makes of the rest is not worth a remark.
        let mut config = Self::default();
        if reading.faults.is_empty() {
            config.read(&mut reading, document.get_ref());
        }
        if reading.faults.is_empty() {
            return Ok(config);
        }
        reading.faults.sort_by_key(|(start, _)| *start);
        Err(Faults(reading.faults.into_iter().map(|(_, fault)| fault).collect()))
    }

    fn read<'t>(&mut self, reading: &mut Reading<'_>, document: &'t DeTable<'t>) {
        let mut top = Section::new(reading, "", Some(document));
        let listen = top.table("listen");
        let http = top.table("http");
        let auth = top.table("auth");
        let users = top.tables("users");
        let pool = top.table("pool");
        let limits = top.table("limits");
        let health = top.table("health");
        let breaker = top.table("breaker");
        let log = top.table("log");
        top.end();
        self.listen.read(Section::new(reading, "listen", listen));
        self.http.read(Section::new(reading, "http", http));
        let mut section = Section::new(reading, "auth", auth);
        section.word("method", &METHODS, &mut self.auth.method);
        let method_span = section.span("method");
        section.end();
        for (span, table) in users {
            let user = read_user(Section::new(reading, "users", Some(table)), &span);
            if let Some(user) = user {
                self.check_password(reading, &user, table);
                if self.users.iter().any(|known| known.name == user.name) {
                    let message = format!("user \"{}\" is there twice", user.name);
                    reading.fault(span, message, None);
                }
                self.users.push(user);
            }
        }
        self.pool.read(Section::new(reading, "pool", pool));
        self.limits.read(Section::new(reading, "limits", limits));
        self.health.read(Section::new(reading, "health", health));
        self.breaker.read(Section::new(reading, "breaker", breaker));
        self.log.read(Section::new(reading, "log", log));
        self.check_trust(reading, method_span.clone());
        self.check_cert(reading, method_span);
    }

    /// A hash that the method can't check a password against would keep its user out for ever.
    fn check_password<'t>(&self, reading: &mut Reading<'_>, user: &User, table: &'t DeTable<'t>) {
        if self.auth.method == AuthMethod::Scram && matches!(user.password, Some(Password::Md5(_)))
        {
            let span = table.get("password").map_or(0..0, toml::Spanned::span);
            reading.fault(
                span,
                format!("user \"{}\" has an md5 hash, and auth.method is scram-sha-256", user.name),
                "Give a password or a SCRAM verifier, or set auth.method = \"md5\".".to_owned(),
            );
        }
    }

    /// Without an authority there is no certificate to believe.
    fn check_cert(&self, reading: &mut Reading<'_>, span: Range<usize>) {
        let has_authority = self.listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if self.auth.method == AuthMethod::Cert && !has_authority {
            reading.fault(
                span,
                "auth.method = \"cert\" needs to know who signs clients' certificates",
                "Write tls = { cert = …, key = …, client_ca = \"ca.crt\" } under [listen]."
                    .to_owned(),
            );
        }
    }

    /// Without passwords only whoever is on this machine may connect.
    fn check_trust(&self, reading: &mut Reading<'_>, span: Range<usize>) {
        if self.auth.method == AuthMethod::Trust && !is_loopback(&self.listen.address) {
            reading.fault(
                span,
                format!(
                    "auth.method = \"trust\" on {}, which is not a loopback address",
                    self.listen.address
                ),
                Some("Listen on 127.0.0.1, or use scram-sha-256.".to_owned()),
            );
        }
    }
}

const METHODS: [(&str, AuthMethod); 4] = [
    ("scram-sha-256", AuthMethod::Scram),
    ("md5", AuthMethod::Md5),
    ("cert", AuthMethod::Cert),
    ("trust", AuthMethod::Trust),
];

fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An address with a port. Names are not looked up here.
fn read_address(section: &mut Section<'_, '_, '_>, target: &mut String) {
    let Some(text) = section.string("address") else { return };
    let port_is_fine = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    // An IPv6 address must be in brackets, which only std knows to tell.
    let is_numeric = text.starts_with(|c: char| c.is_ascii_digit() || c == '[' || c == ':');
    if !port_is_fine || (is_numeric && text.parse::<SocketAddr>().is_err()) {
        let span = section.span("address");
        section.reading.fault(
            span,
            format!("not an address with a port: \"{text}\""),
            Some("Write \"127.0.0.1:6432\" or \"[::1]:6432\".".to_owned()),
        );
        return;
    }
    *target = text;
}

impl Listen {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        read_address(&mut section, &mut self.address);
        section.number("clients_max", 1, 1_000_000, &mut self.clients_max);
        let tls = section.table("tls");
        let span = section.span("tls");
        self.tls = read_tls(Section::new(section.reading, "listen.tls", tls), &span);
        section.end();
    }
}

fn read_tls(mut section: Section<'_, '_, '_>, span: &Range<usize>) -> Option<Tls> {
    if !section.is_present() {
        return None;
    }
    let cert = section.string("cert").map(PathBuf::from);
    let key = section.string("key").map(PathBuf::from);
    let client_ca = section.string("client_ca").map(PathBuf::from);
    let mut required = false;
    section.boolean("required", &mut required);
    if cert.is_none() || key.is_none() {
        let message = "listen.tls needs both cert and key";
        section.reading.fault(span.clone(), message, None);
    }
    section.end();
    Some(Tls { cert: cert?, key: key?, client_ca, required })
}

impl Http {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        read_address(&mut section, &mut self.address);
        self.token = section.string("token").map(Secret::new);
        if self.token.as_ref().is_some_and(Secret::is_empty) {
            let span = section.span("token");
            section.reading.fault(span, "http.token is empty", None);
        }
        section.end();
    }
}

fn read_user(mut section: Section<'_, '_, '_>, span: &Range<usize>) -> Option<User> {
    let name = section.string("name").filter(|name| !name.is_empty());
    let password = section.string("password").and_then(|text| read_password(&mut section, text));
    let mut clients_max = 0;
    section.number("clients_max", 1, 1_000_000, &mut clients_max);
    let clients_max = Some(clients_max).filter(|most: &usize| *most > 0);
    let shard_password = section.string("shard_password").map(Secret::new);
    let (mut admin, mut hints, mut across_regions) = (false, false, false);
    section.boolean("admin", &mut admin);
    section.boolean("across_regions", &mut across_regions);
    section.boolean("hints", &mut hints);
    let key = section.string("key");
    if name.is_none() {
        section.reading.fault(span.clone(), "a user without a name", None);
    }
    section.end();
    let name = name?;
    Some(User { name, clients_max, password, shard_password, admin, hints, key, across_regions })
}

/// PostgreSQL's own rule for what is a hash and what a password (`get_password_type`).
fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|hash| {
        hash.len() == 32 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn read_password(section: &mut Section<'_, '_, '_>, text: String) -> Option<Password> {
    if text.is_empty() {
        let span = section.span("password");
        section.reading.fault(span, "users.password is empty", None);
    }
    if is_md5(&text) {
        return Some(Password::Md5(Secret::new(text)));
    }
    if !text.starts_with("SCRAM-SHA-256$") {
        return Some(Password::Plain(Secret::new(text)));
    }
    let verifier = Verifier::parse(&text);
    if verifier.is_none() {
        let span = section.span("password");
        let hint = "Copy it from pg_authid.rolpassword.".to_owned();
        section.reading.fault(span, "users.password is not a SCRAM verifier", hint);
    }
    verifier.map(Password::Verifier)
}

impl Pool {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        let modes = [
            ("transaction", PoolMode::Transaction),
            ("session", PoolMode::Session),
            ("statement", PoolMode::Statement),
        ];
        section.word("mode", &modes, &mut self.mode);
        section.number("size", 1, 10_000, &mut self.size);
        section.number("reserve", 0, 10_000, &mut self.reserve);
        section.positive_duration("wait_timeout", &mut self.wait_timeout);
        section.positive_duration("idle_timeout", &mut self.idle_timeout);
        section.positive_duration("lifetime", &mut self.lifetime);
        section.boolean("local_answers", &mut self.local_answers);
        section.number("prepare_threshold", 0, 1_000_000, &mut self.prepare_threshold);
        section.end();
    }
}

impl Limits {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        if let Some(bytes) = section.bytes("statement_bytes_max") {
            // PostgreSQL's own bound on a message (PQ_LARGE_MESSAGE_LIMIT, 1 GB less one).
            let within = u32::try_from(bytes).ok().filter(|n| (1024..(1 << 30)).contains(n));
            if let Some(bytes) = within {
                self.statement_bytes_max = bytes;
            } else {
                let span = section.span("statement_bytes_max");
                let message = "limits.statement_bytes_max must be between 1KiB and 1GiB";
                section.reading.fault(span, message, None);
            }
        }
        self.merge_memory_max = section.bytes("merge_memory_max").unwrap_or(self.merge_memory_max);
        let total = section.bytes("merge_memory_total_max");
        self.merge_memory_total_max = total.unwrap_or(self.merge_memory_total_max);
        section.duration("query_timeout", &mut self.query_timeout);
        let idle = &mut self.idle_in_transaction_timeout;
        section.duration("idle_in_transaction_timeout", idle);
        section.positive_duration("in_doubt_after", &mut self.in_doubt_after);
        if !self.in_doubt_after.is_zero() && self.in_doubt_after.as_secs() == 0 {
            // In less every commit would be given up.
            let span = section.span("in_doubt_after");
            section.reading.fault(span, "limits.in_doubt_after must be 1s or longer", None);
        }
        section.duration("drain_timeout", &mut self.drain_timeout);
        section.end();
    }
}

impl Health {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        section.positive_duration("interval", &mut self.interval);
        section.positive_duration("timeout", &mut self.timeout);
        section.number("retries", 1, 1000, &mut self.retries);
        section.end();
    }
}

impl Breaker {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        section.number("threshold", 1, 1_000_000, &mut self.threshold);
        section.positive_duration("timeout", &mut self.timeout);
        section.number("half_open_requests", 1, 1000, &mut self.half_open_requests);
        section.end();
    }
}

/// What `log.level` may say by itself.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Log {
    fn read(&mut self, mut section: Section<'_, '_, '_>) {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        section.word("format", &formats, &mut self.format);
        if let Some(level) = section.string("level") {
            // A word alone is taken for the name of a part of the program, all of whose lines are wanted.
            let is_level = |word: &str| word.contains('=') || LEVELS.contains(&word.trim());
            if tracing_subscriber::EnvFilter::try_new(&level).is_err()
                || !level.split(',').all(|word| is_level(&word.to_ascii_lowercase()))
            {
                let span = section.span("level");
                let hint = "Write error, warn, info, debug or trace.".to_owned();
                section.reading.fault(span, "log.level is not a level", hint);
            }
            self.level = level;
        }
        section.duration("slow_query", &mut self.slow_query);
        section.end();
    }
}

#[cfg(test)]
mod tests;
