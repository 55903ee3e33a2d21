use std::time::Duration;

use super::*;

fn parse(text: &str) -> Result<Config, Faults> {
    let env = |name: &str| (name == "BOT_PASSWORD").then(|| "geheim".to_owned());
    Config::parse("pgmeridian.toml", text, &env)
}

/// Each expected fault: `line:column message; hint`.
fn check(text: &str, expect: &[&str]) {
    let found: Vec<String> = match parse(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .iter()
            .map(|fault| {
                let hint = fault.hint.as_deref().unwrap_or_default();
                format!("{}:{} {}; {hint}", fault.line, fault.column, fault.message)
            })
            .collect(),
    };
    assert_eq!(found, expect, "{text}");
}

const WHOLE: &str = r#"
[listen]
address = "[::1]:6000"
clients_max = 10_0
tls = { cert = "server.crt", key = "server.key", client_ca = "ca.crt", required = true }
[http]
address = "127.0.0.1:9000"
token = "${BOT_PASSWORD}"
[auth]
method = "md5"
[[users]]
name = "bot"
clients_max = 3
password = "${BOT_PASSWORD}"
shard_password = "other"
admin = true
hints = true
key = "42"
across_regions = true
[[users]]
name = "app"
password = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
[pool]
mode = "session"
size = 7
reserve = 0
wait_timeout = "300ms"
idle_timeout = "1h"
lifetime = "1d"
local_answers = false
prepare_threshold = 3
[limits]
statement_bytes_max = "1MiB"
merge_memory_max = "2MiB"
merge_memory_total_max = "3MiB"
query_timeout = "4s"
idle_in_transaction_timeout = "5s"
drain_timeout = "0s"
[health]
interval = "1s"
timeout = "2s"
retries = 9
[breaker]
threshold = 1
timeout = "3s"
half_open_requests = 2
[log]
format = "json"
level = "pgmeridian=debug"
slow_query = "0"
"#;

#[test]
fn the_whole_file() {
    let config = parse(WHOLE).unwrap();
    assert_eq!(config.listen.address, "[::1]:6000");
    assert_eq!(config.listen.clients_max, 100);
    assert!(config.listen.tls.unwrap().required);
    assert_eq!(config.http.token, Some(Secret::new("geheim")));
    assert_eq!(config.auth.method, AuthMethod::Md5);
    let [bot, app] = &config.users[..] else { panic!("two users") };
    assert!(matches!(&bot.password, Some(Password::Plain(p)) if p.expose() == "geheim"));
    assert_eq!(bot.shard_password, Some(Secret::new("other")));
    assert!(
        bot.clients_max == Some(3) && bot.admin && bot.hints && bot.key.as_deref() == Some("42")
    );
    assert!(matches!(&app.password, Some(Password::Verifier(_))) && !app.admin);
    assert!(bot.across_regions && !app.across_regions);
    assert_eq!((config.pool.mode, config.pool.size), (PoolMode::Session, 7));
    assert_eq!(config.pool.prepare_threshold, 3);
    assert_eq!(config.pool.wait_timeout, Duration::from_millis(300));
    assert_eq!(config.limits.statement_bytes_max, 1 << 20);
    assert_eq!(config.limits.drain_timeout, Duration::ZERO);
    assert_eq!(config.health.retries, 9);
    assert_eq!(config.breaker.half_open_requests, 2);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn nothing_is_needed() {
    let config = parse("").unwrap();
    assert_eq!(config.listen.address, "127.0.0.1:6432");
    assert_eq!((config.pool.size, config.pool.reserve), (25, 5));
}

#[test]
fn all_faults_at_once() {
    check(
        r#"[listen]
adress = "x"
clients_max = 0
[pool]
size = "many"
mode = "sesion"
wait_timeout = 5
idle_timeout = "5 parsecs"
[poool]
"#,
        &[
            r#"2:1 unknown key "adress" in [listen]; Did you mean "address"?"#,
            "3:15 listen.clients_max must be between 1 and 1000000; ",
            "5:8 pool.size must be a whole number, not a string; ",
            r#"6:8 pool.mode must be one of transaction, session, statement; Did you mean "session"?"#,
            r#"7:16 pool.wait_timeout needs a unit; Write a string, wait_timeout = "5s"."#,
            r#"8:16 pool.idle_timeout is not a duration: "5 parsecs"; Write "300ms", "5s", "2min", "1h"."#,
            r#"9:2 unknown key "poool"; Did you mean "pool"?"#,
        ],
    );
}

#[test]
fn single_faults() {
    let loopback = r#"Write "127.0.0.1:6432" or "[::1]:6432"."#;
    for (address, fine) in [
        ("nowhere", false),
        ("::1:99", false),
        (":99", false),
        ("127.0.0.1", false),
        ("proxy.internal:6432", true),
        ("[::1]:0", true),
    ] {
        let fault = format!("2:11 not an address with a port: \"{address}\"; {loopback}");
        let expect: &[&str] = if fine { &[] } else { &[&fault] };
        check(&format!("[listen]\naddress = \"{address}\""), expect);
    }
    let cases: [(&str, &[&str]); 21] = [
        ("[listen]\ntls = { cert = 'a' }", &["2:7 listen.tls needs both cert and key; "]),
        (
            "[http]\ntoken = '${NOPE}'",
            &["2:9 environment variable NOPE is not set; Set NOPE, or write the value itself."],
        ),
        ("[http]\ntoken = ''", &["2:9 http.token is empty; "]),
        ("[[users]]\nname = 'a'\npassword = ''", &["3:12 users.password is empty; "]),
        ("[[users]]\npassword = 'x'", &["1:1 a user without a name; "]),
        ("[[users]]\nname = 'a'\n[[users]]\nname = 'a'", &["3:1 user \"a\" is there twice; "]),
        (
            "[[users]]\nname = 'a'\npassword = 'SCRAM-SHA-256$x'",
            &["3:12 users.password is not a SCRAM verifier; Copy it from pg_authid.rolpassword."],
        ),
        ("[users]\nname = 'a'", &["1:1 users must be a list of tables, [[users]], not a table; "]),
        ("pool = 3", &["1:8 pool must be a table, [pool], not an integer; "]),
        ("[pool]\nwait_timeout = '0s'", &["2:16 pool.wait_timeout must be longer than zero; "]),
        (
            "[limits]\nin_doubt_after = '0s'",
            &["2:18 limits.in_doubt_after must be longer than zero; "],
        ),
        (
            "[limits]\nin_doubt_after = '900ms'",
            &["2:18 limits.in_doubt_after must be 1s or longer; "],
        ),
        (
            "[limits]\nstatement_bytes_max = '2GiB'",
            &["2:23 limits.statement_bytes_max must be between 1KiB and 1GiB; "],
        ),
        (
            "[[users]]\nname = 'a'\npassword = 'md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
            &["3:12 user \"a\" has an md5 hash, and auth.method is scram-sha-256; \
                 Give a password or a SCRAM verifier, or set auth.method = \"md5\"."],
        ),
        (
            "[auth]\nmethod = 'md5'\n[[users]]\nname = 'a'\npassword = 'md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
            &[],
        ),
        (
            "[auth]\nmethod = 'cert'\n[listen]\ntls = { cert = 'a', key = 'b' }",
            &["2:10 auth.method = \"cert\" needs to know who signs clients' certificates; \
                 Write tls = { cert = …, key = …, client_ca = \"ca.crt\" } under [listen]."],
        ),
        ("[auth]\nmethod = 'trust'", &[]),
        (
            "[listen]\naddress = '0.0.0.0:1'\n[auth]\nmethod = 'trust'",
            &["4:10 auth.method = \"trust\" on 0.0.0.0:1, which is not a loopback address; \
                 Listen on 127.0.0.1, or use scram-sha-256."],
        ),
        (
            "[log]\nlevel = 'a=b=c'",
            &["2:9 log.level is not a level; Write error, warn, info, debug or trace."],
        ),
        (
            "[log]\nlevel = 'verbose'",
            &["2:9 log.level is not a level; Write error, warn, info, debug or trace."],
        ),
        ("[log]\nlevel = 'Warn,pgmeridian::exec=debug'", &[]),
    ];
    for (text, expect) in cases {
        check(text, expect);
    }
    assert_eq!(parse("[listen\n").unwrap_err().iter().next().unwrap().line, 1);
}

#[test]
fn faults_show_the_line_but_no_secret() {
    let shown = parse("[pool]\nsize = \"ü\"").unwrap_err().to_string();
    assert!(shown.contains("2 | size = \"ü\"\n  |        ^^^"), "{shown}");
    for password in ["{ geheim = 1 }", "\"${X}geheim\"", "[\"geheim\"]", "\"SCRAM-SHA-256$geheim\""]
    {
        let text = format!("[[users]]\nname = \"a\"\npassword = {password}");
        let shown = parse(&text).unwrap_err().to_string();
        assert!(!shown.contains("geheim"), "{shown}");
    }
}
