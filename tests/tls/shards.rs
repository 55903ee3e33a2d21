//! TLS to shards: libpq's `sslmode` against a PostgreSQL with it and one without.

use std::sync::Arc;
use std::time::Duration;

use pgmeridian::backend::{BackendError, Connection, Target, connect, control};
use pgmeridian::demo::cluster::{Cluster, DATABASE, Options};
use pgmeridian::map::ConnectionTarget;

use crate::pki::{self, Authority};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Roles by how they may come.
const HBA: [&str; 6] = [
    "hostssl all only_tls 127.0.0.1/32 trust",
    "hostnossl all only_tls 127.0.0.1/32 reject",
    "hostnossl all only_plain 127.0.0.1/32 trust",
    "hostssl all only_plain 127.0.0.1/32 reject",
    "hostssl all by_cert 127.0.0.1/32 cert",
    "host all old 127.0.0.1/32 password",
];

const ROLES: &str = "CREATE ROLE only_tls LOGIN; CREATE ROLE only_plain LOGIN;
    CREATE ROLE by_cert LOGIN; CREATE ROLE old LOGIN PASSWORD 'old'";

/// A PostgreSQL with TLS, whose certificate is for localhost (a name, not an address).
struct Encrypted {
    cluster: Cluster,
}

impl Encrypted {
    async fn start() -> Self {
        let mut options = Options::named("tls");
        options.hba = HBA.map(str::to_owned).to_vec();
        let cluster = Cluster::start(&options).unwrap();
        let ca = Authority::new("the authority");
        pki::write_pair(&cluster, "server", &ca.issue("some host", &["localhost"]));
        pki::write(&cluster, "ca.crt", &ca.pem);
        pki::write(&cluster, "other.crt", &Authority::new("another authority").pem);
        pki::write_pair(&cluster, "by_cert", &ca.issue("by_cert", &[]));
        let server = Self { cluster };
        server.cluster.execute(DATABASE, ROLES).await.unwrap();
        server.encrypt().await;
        server
    }

    async fn encrypt(&self) {
        let directory = self.cluster.directory().display();
        for setting in [
            format!("ssl_cert_file = '{directory}/server.crt'"),
            format!("ssl_key_file = '{directory}/server.key'"),
            format!("ssl_ca_file = '{directory}/ca.crt'"),
            "ssl = on".to_owned(),
        ] {
            let sql = format!("ALTER SYSTEM SET {setting}");
            self.cluster.execute(DATABASE, &sql).await.unwrap();
        }
        self.cluster.execute(DATABASE, "SELECT pg_reload_conf()").await.unwrap();
        for _ in 0..500 {
            if self.dial("bot:bot", "localhost", "sslmode=require").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no TLS: {:?}", self.dial("bot:bot", "localhost", "sslmode=require").await.err());
    }

    fn file(&self, name: &str) -> String {
        self.cluster.directory().join(name).display().to_string()
    }

    async fn dial(&self, user: &str, host: &str, query: &str) -> Result<Connection, BackendError> {
        connect(&target(user, host, self.cluster.port(), query), &[], TIMEOUT).await
    }
}

fn target(user: &str, host: &str, port: u16, query: &str) -> Arc<Target> {
    let url = format!("postgresql://{user}@{host}:{port}/{DATABASE}?{query}");
    Arc::new((&ConnectionTarget::parse(&url, &|_| None).unwrap()).into())
}

const IS_ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// `tls`, `plain`, or what went wrong.
async fn outcome(dialled: Result<Connection, BackendError>) -> String {
    match dialled {
        Ok(mut connection) => {
            let rows = connection.simple_query(IS_ENCRYPTED).await.unwrap();
            let encrypted = rows[0][0].as_deref() == Some("t");
            assert_eq!(encrypted, connection.is_encrypted());
            if encrypted { "tls".to_owned() } else { "plain".to_owned() }
        }
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn shards_are_reached_as_libpq_would_reach_them() {
    let server = Encrypted::start().await;
    sslmode_means_what_it_means_to_libpq(&server).await;
    control_connections_and_cancel_requests_are_encrypted_too(&server).await;
    large_messages_are_not_cut(&server).await;
    a_broken_handshake_is_no_end(&server).await;
    // Last, for it gives the server another certificate.
    certificates_and_channel_binding(&server).await;
}

async fn sslmode_means_what_it_means_to_libpq(server: &Encrypted) {
    let plain = Cluster::start(&Options::named("plain")).unwrap();
    let (ca, other) = (server.file("ca.crt"), server.file("other.crt"));
    let check = async |user: &str, host: &str, query: &str, with: &str, without: &str| {
        let found = outcome(server.dial(user, host, query).await).await;
        assert!(found.contains(with), "{user} {host} {query}: {found}");
        if !without.is_empty() {
            let target = target(user, host, plain.port(), query);
            let found = outcome(connect(&target, &[], TIMEOUT).await).await;
            assert!(found.contains(without), "{user} {host} {query}, no TLS: {found}");
        }
    };
    let none = "server does not support SSL, but SSL was required";
    let (bot, name, address) = ("bot:bot", "localhost", "127.0.0.1");
    check(bot, name, "sslmode=disable", "plain", "plain").await;
    check(bot, name, "sslmode=allow", "plain", "plain").await;
    check(bot, name, "", "tls", "plain").await;
    check(bot, name, "sslmode=prefer", "tls", "plain").await;
    check(bot, name, "sslmode=require", "tls", none).await;
    check(bot, address, "sslmode=require", "tls", none).await;
    check(bot, name, "sslmode=verify-ca", "root certificate file", none).await;
    // A root certificate counts in every mode that encrypts.
    for mode in ["require", "verify-ca", "verify-full"] {
        let query = format!("sslmode={mode}&sslrootcert={ca}");
        check(bot, name, &query, "tls", none).await;
        let query = format!("sslmode={mode}&sslrootcert={other}");
        check(bot, name, &query, "certificate is not trusted", none).await;
    }
    check(bot, name, &format!("sslmode=prefer&sslrootcert={other}"), "plain", "plain").await;
    check(bot, address, &format!("sslmode=verify-ca&sslrootcert={ca}"), "tls", none).await;
    let wrong_name = "for \"some host\" does not match host name \"127.0.0.1\"";
    check(bot, address, &format!("sslmode=verify-full&sslrootcert={ca}"), wrong_name, none).await;
    let missing = "root certificate file \"/none.crt\" does not exist";
    check(bot, name, "sslmode=verify-full&sslrootcert=/none.crt", missing, none).await;
    check(bot, name, "sslrootcert=system", "certificate is not trusted", none).await;
    // Who may come in one way only is let in by the second attempt.
    check("only_tls", name, "sslmode=allow", "tls", "").await;
    check("only_tls", name, "sslmode=disable", "no encryption", "").await;
    check("only_plain", name, "sslmode=prefer", "plain", "").await;
    check("only_plain", name, "sslmode=require", "pg_hba.conf rejects connection", "").await;
    // The first attempt's wrong password is not tried again.
    check("bot:wrong", name, "sslmode=prefer", "password authentication failed", "").await;
}

async fn certificates_and_channel_binding(server: &Encrypted) {
    let check = async |user: &str, query: &str, expect: &str| {
        let found = outcome(server.dial(user, "localhost", query).await).await;
        assert!(found.contains(expect), "{user} {query}: {found}");
    };
    let own =
        format!("sslcert={}&sslkey={}", server.file("by_cert.crt"), server.file("by_cert.key"));
    check("by_cert", &format!("sslmode=require&{own}"), "tls").await;
    check("by_cert", "sslmode=require", "requires a valid client certificate").await;
    let keyless =
        format!("sslmode=require&sslcert={}&sslkey=/none.key", server.file("by_cert.crt"));
    check("by_cert", &keyless, "\"/none.key\" can't be used").await;
    check("bot:bot", "sslmode=require&channel_binding=require", "tls").await;
    check("bot:bot", "sslmode=require&channel_binding=disable", "tls").await;
    check("bot:bot", "sslmode=disable&channel_binding=require", "channel binding is required")
        .await;
    check("old:old", "channel_binding=require", "channel binding required").await;
    check("old:old", "require_auth=password", "tls").await;
    check("old:old", "require_auth=scram-sha-256,md5", "it asks for password").await;
    check("old:old", "require_auth=!password", "it asks for password").await;
    check("bot:bot", "require_auth=!password,!md5", "tls").await;
    // PostgreSQL 15 knows no direct TLS; it must be given up, never be plaintext.
    let direct = server.dial("bot:bot", "localhost", "sslmode=require&sslnegotiation=direct").await;
    if let Err(error) = &direct {
        assert!(matches!(error, BackendError::Connect(_) | BackendError::Tls(_)), "{error}");
    }
    // A renewed certificate of the server, and a new authority in the same file.
    let verify = format!("sslmode=verify-full&sslrootcert={}", server.file("ca.crt"));
    check("bot:bot", &verify, "tls").await;
    let own = pki::self_signed("localhost");
    pki::write_pair(&server.cluster, "server", &own);
    server.cluster.execute(DATABASE, "SELECT pg_reload_conf()").await.unwrap();
    for _ in 0..500 {
        if server.dial("bot:bot", "localhost", &verify).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    check("bot:bot", &verify, "certificate is not trusted").await;
    pki::write(&server.cluster, "ca.crt", &own.cert);
    check("bot:bot", &verify, "tls").await;
}

async fn control_connections_and_cancel_requests_are_encrypted_too(server: &Encrypted) {
    for (query, expect) in
        [("sslmode=require&channel_binding=require", "t"), ("sslmode=disable", "f")]
    {
        let target = target("bot:bot", "localhost", server.cluster.port(), query);
        let (client, connection) = control(&target, TIMEOUT).await.unwrap();
        tokio::spawn(connection);
        let row = client.query_one(&format!("SELECT ({IS_ENCRYPTED})::text"), &[]).await.unwrap();
        assert!(row.get::<_, String>(0).starts_with(expect));
    }
    for (user, query, encrypted) in [("only_tls", "sslmode=allow", true), ("only_plain", "", false)]
    {
        let target = target(user, "localhost", server.cluster.port(), query);
        let (client, connection) = control(&target, TIMEOUT).await.unwrap();
        tokio::spawn(connection);
        let row = client.query_one(IS_ENCRYPTED, &[]).await.unwrap();
        assert_eq!(row.get::<_, bool>(0), encrypted, "{user}");
    }
    // What is cancelled over TLS ends.
    let mut working = server.dial("bot:bot", "localhost", "sslmode=require").await.unwrap();
    let key = working.cancel_key();
    let cancelling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        key.cancel(TIMEOUT).await
    });
    let error = working.simple_query("SELECT pg_sleep(30)").await.unwrap_err();
    assert!(error.to_string().contains("canceling statement due to user request"), "{error}");
    cancelling.await.unwrap().unwrap();
    // The request itself does not go in plain.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target =
        target("bot", "127.0.0.1", listener.local_addr().unwrap().port(), "sslmode=require");
    let asked = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut packet = [0; 8];
        socket.read_exact(&mut packet).await.unwrap();
        socket.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        (packet, rest)
    });
    let error = pgmeridian::backend::cancel(&target, 1, &[1, 2, 3, 4], TIMEOUT).await.unwrap_err();
    assert!(matches!(error, BackendError::Tls(_)), "{error}");
    let (packet, rest) = asked.await.unwrap();
    assert_eq!((&packet[..], rest.len()), (&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f][..], 0));
}

/// A server that promises TLS and then breaks off: who prefers it does without, who requires it fails.
async fn a_broken_handshake_is_no_end(server: &Encrypted) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, real) = (listener.local_addr().unwrap().port(), server.cluster.port());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut first = [0; 8];
            socket.read_exact(&mut first).await.unwrap();
            if first == [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f] {
                socket.write_all(b"S").await.unwrap();
                continue;
            }
            let mut to = tokio::net::TcpStream::connect(("127.0.0.1", real)).await.unwrap();
            to.write_all(&first).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut socket, &mut to).await });
        }
    });
    let found = connect(&target("bot:bot", "localhost", port, ""), &[], TIMEOUT).await;
    assert_eq!(outcome(found).await, "plain");
    let found =
        connect(&target("bot:bot", "localhost", port, "sslmode=require"), &[], TIMEOUT).await;
    assert!(matches!(found, Err(BackendError::Connect(_))), "{found:?}");
}

/// Large questions and answers cross an encrypted connection whole.
async fn large_messages_are_not_cut(server: &Encrypted) {
    let mut connection = server.dial("bot:bot", "localhost", "sslmode=require").await.unwrap();
    let word = "x".repeat(3_000_000);
    let rows =
        connection.simple_query(&format!("SELECT length('{word}'), '{word}'")).await.unwrap();
    assert_eq!(rows[0][0].as_deref(), Some("3000000"));
    assert_eq!(rows[0][1].as_deref(), Some(word.as_str()));
    assert!(connection.is_alive());
}
