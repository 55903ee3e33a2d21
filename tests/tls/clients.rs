//! TLS to clients: libpq, and clients that do what libpq would not.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use pgmeridian::backend::{Target, connect};
use pgmeridian::demo::cluster::{DATABASE, Programs};
use pgmeridian::map::ConnectionTarget;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::pki::{self, Authority};
use crate::support::{Proxy, Shards};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Shards, an authority, and files for a proxy.
pub(crate) struct World {
    pub(crate) shards: Shards,
    pub(crate) ca: Authority,
}

impl World {
    /// One for all tests that don't change it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<World> = LazyLock::new(|| World::new(1));
        &SHARED
    }

    pub(crate) fn new(shards: usize) -> Self {
        let world = Self { shards: Shards::databases(shards), ca: Authority::new("the authority") };
        world.write("ca.crt", &world.ca.pem);
        world.renew(&world.ca.issue("the proxy", &["localhost"]));
        world
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        pki::write(self.shards.first(), name, text)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.shards.first().directory().join(name).display().to_string()
    }

    /// Another certificate for the proxy.
    pub(crate) fn renew(&self, pair: &pki::Pair) {
        pki::write_pair(self.shards.first(), "proxy", pair);
    }

    /// A proxy with `[listen] tls`, `more` in it, and further sections.
    pub(crate) async fn proxy(&self, more: &str, sections: &str) -> Proxy {
        let (cert, key) = (self.file("proxy.crt"), self.file("proxy.key"));
        let config =
            format!("[listen]\ntls = {{ cert = '{cert}', key = '{key}'{more} }}\n{sections}");
        Proxy::start_with(&self.shards, &self.shards.map_by_hash(""), &config).await
    }

    /// psql's answer to a query, or its complaint.
    pub(crate) fn psql(&self, proxy: &Proxy, words: &str, sql: &str) -> Result<String, String> {
        let mut conninfo = format!("port={} dbname={DATABASE}", proxy.address.port());
        if !words.contains("host=") {
            conninfo.push_str(" host=localhost hostaddr=127.0.0.1");
        }
        if !words.contains("user=") {
            conninfo.push_str(" user=bot password=bot");
        }
        let _ = write!(conninfo, " {words}");
        let psql = Programs::find().unwrap().path("psql");
        let Output { status, stdout, stderr } = self
            .shards
            .first()
            .command(psql)
            .env("HOME", self.shards.first().directory())
            .args(["-X", "-A", "-t", "-w", "-c", sql, &conninfo])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
    }

    /// A connection of our own to a proxy.
    pub(crate) fn target(proxy: &Proxy, user: &str, query: &str) -> Arc<Target> {
        let port = proxy.address.port();
        let url = format!("postgresql://{user}@localhost:{port}/{DATABASE}?{query}");
        Arc::new((&ConnectionTarget::parse(&url, &|_| None).unwrap()).into())
    }

    /// psql's outcome holds a text.
    pub(crate) fn check(&self, proxy: &Proxy, words: &str, expect: &str) {
        let found = self.psql(proxy, words, "SELECT 'in'").unwrap_or_else(|complaint| complaint);
        assert!(found.contains(expect), "{words}: {found}\n{}", proxy.log());
    }
}

/// What psql's `\conninfo` says of TLS.
const CONNINFO: &str = "\\conninfo";

#[tokio::test]
async fn libpq_with_every_sslmode() {
    let world = World::shared();
    world.write("other.crt", &Authority::new("another authority").pem);
    let (ca, other) = (world.file("ca.crt"), world.file("other.crt"));
    let with = world.proxy("", "").await;
    let without = Proxy::start(&world.shards, &world.shards.map_by_hash("")).await;
    let required = world.proxy(", required = true", "").await;
    let no_entry = format!(
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"bot\", database \"{DATABASE}\", no encryption"
    );
    let none = "server does not support SSL, but SSL was required";
    let check = |words: &str, in_with: &str, in_without: &str, in_required: &str| {
        world.check(&with, words, in_with);
        world.check(&without, words, in_without);
        world.check(&required, words, in_required);
    };
    check("sslmode=disable", "in", "in", &no_entry);
    check("sslmode=allow", "in", "in", "in");
    check("sslmode=prefer", "in", "in", "in");
    check("sslmode=require", "in", none, "in");
    check(&format!("sslmode=verify-ca sslrootcert={ca}"), "in", none, "in");
    check(&format!("sslmode=verify-full sslrootcert={ca}"), "in", none, "in");
    let distrust = "certificate verify failed";
    check(&format!("sslmode=verify-ca sslrootcert={other}"), distrust, none, distrust);
    let wrong_name = "does not match host name \"127.0.0.1\"";
    let by_address = format!("sslmode=verify-full sslrootcert={ca} host=127.0.0.1");
    check(&by_address, wrong_name, none, wrong_name);
    let bound = "channel_binding=require sslmode";
    check(&format!("{bound}=require"), "in", none, "in");
    world.check(&with, &format!("{bound}=disable"), "channel binding required");
    check("channel_binding=disable sslmode=prefer", "in", "in", "in");
    let shown = world.psql(&with, "sslmode=prefer", CONNINFO).unwrap();
    assert!(shown.contains("TLSv1.3"), "{shown}");
    world.check(&with, "sslmode=require ssl_max_protocol_version=TLSv1.2", "in");
    // Rows and COPY in both directions, far more than fits any buffer.
    let sql = "SELECT repeat(i::text, 500) FROM generate_series(1000, 20000) i";
    let rows = world.psql(&with, "sslmode=require", sql).unwrap();
    assert_eq!(rows, world.psql(&with, "sslmode=disable", sql).unwrap());
    assert_eq!(rows.lines().count(), 19_001);
    world.write("rows.txt", &rows);
    world.psql(&with, "sslmode=require", "CREATE TABLE words (word text)").unwrap();
    let copy = format!("\\copy words FROM '{}'", world.file("rows.txt"));
    assert_eq!(world.psql(&with, "sslmode=require", &copy).unwrap(), "COPY 19001");
    let copy = world.psql(&with, "sslmode=require", "\\copy words TO STDOUT").unwrap();
    assert_eq!(copy, rows);
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A handshake from the first byte, then a start-up packet; what comes back, if anything does.
async fn directly(proxy: &Proxy, protocols: &[&[u8]]) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let socket = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, socket).await.ok()?;
    let startup = crate::support::raw::startup(&[("user", "bot"), ("database", DATABASE)]);
    stream.write_all(&startup).await.ok()?;
    let mut answer = vec![0; 1];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer)
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let world = World::shared();
    let proxy = world.proxy("", "").await;
    let ca = world.file("ca.crt");
    // A whole session, bound to the certificate.
    let query = format!(
        "sslmode=verify-full&sslrootcert={ca}&sslnegotiation=direct&channel_binding=require"
    );
    let target = World::target(&proxy, "bot:bot", &query);
    let mut connection = connect(&target, &[], TIMEOUT).await.unwrap();
    let rows = connection.simple_query("SELECT 1").await.unwrap();
    assert_eq!(rows[0][0].as_deref(), Some("1"));
    // Who does not say which protocol he means may mean another one.
    assert_eq!(directly(&proxy, &[b"postgresql"]).await, Some(vec![b'R']));
    assert_eq!(directly(&proxy, &[b"h2", b"postgresql"]).await, Some(vec![b'R']));
    assert_eq!(directly(&proxy, &[]).await, None);
    assert_eq!(directly(&proxy, &[b"h2"]).await, None);
    let without = Proxy::start(&world.shards, &world.shards.map_by_hash("")).await;
    assert_eq!(directly(&without, &[b"postgresql"]).await, None);
    // A cancel request over TLS, of a statement over TLS.
    let key = connection.cancel_key();
    let cancelling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        key.cancel(TIMEOUT).await
    });
    let error = connection.simple_query("SELECT pg_sleep(30)").await.unwrap_err();
    assert!(error.to_string().contains("canceling statement due to user request"), "{error}");
    cancelling.await.unwrap().unwrap();
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];

/// Sends bytes, and gives all that comes back until the end.
async fn says(proxy: &Proxy, parts: &[&[u8]]) -> String {
    let mut socket = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let mut said = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        socket.write_all(part).await.unwrap();
        if n + 1 < parts.len() {
            let mut byte = [0];
            socket.read_exact(&mut byte).await.unwrap();
            said.extend_from_slice(&byte);
        }
    }
    let read = tokio::time::timeout(TIMEOUT, socket.read_to_end(&mut said)).await;
    assert!(read.is_ok(), "the connection stays open after {said:?}");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn plaintext_is_never_taken_for_encrypted() {
    let world = World::shared();
    let proxy = world.proxy("", "").await;
    let startup = crate::support::raw::startup(&[("user", "bot"), ("database", DATABASE)]);
    // CVE-2021-23222: what lies behind the request in plain came from somebody in between.
    let injected = says(&proxy, &[&[&SSL_REQUEST[..], &startup[..]].concat()]).await;
    assert!(injected.starts_with('E') && injected.contains("C08P01"), "{injected}");
    assert!(injected.contains("received unencrypted data after SSL request"), "{injected}");
    // Behind the answer, it is no handshake.
    assert_eq!(says(&proxy, &[&SSL_REQUEST, &startup]).await.chars().next(), Some('S'));
    let gss = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];
    assert!(says(&proxy, &[&gss, &gss]).await.contains("frontend protocol 1234.5680"));
    let without = Proxy::start(&world.shards, &world.shards.map_by_hash("")).await;
    let twice = says(&without, &[&SSL_REQUEST, &SSL_REQUEST]).await;
    assert!(twice.starts_with('N') && twice.contains("frontend protocol 1234.5679"), "{twice}");
}

#[tokio::test]
async fn certificates_are_renewed_while_clients_are_served() {
    let world = World::new(1);
    let proxy = world.proxy("", "").await;
    let verify = |ca: &str| format!("sslmode=verify-full sslrootcert={}", world.file(ca));
    world.check(&proxy, &verify("ca.crt"), "in");
    let target = World::target(&proxy, "bot:bot", "sslmode=require");
    let mut before = connect(&target, &[], TIMEOUT).await.unwrap();
    let until = async |ca: &str| {
        let deadline = Instant::now() + TIMEOUT;
        while world.psql(&proxy, &verify(ca), "SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "{ca}: {}", proxy.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // By the files alone.
    let second = Authority::new("the second authority");
    world.write("second.crt", &second.pem);
    world.renew(&second.issue("the proxy", &["localhost"]));
    until("second.crt").await;
    // A broken one changes nothing, and is told of.
    world.write("proxy.crt", "-----BEGIN CERTIFICATE-----\nnonsense\n");
    proxy.signal("HUP");
    let deadline = Instant::now() + TIMEOUT;
    while !proxy.log().contains("the old one stays") {
        assert!(Instant::now() < deadline, "{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.check(&proxy, &verify("second.crt"), "in");
    // On SIGHUP, at once.
    world.renew(&world.ca.issue("the proxy", &["localhost"]));
    proxy.signal("HUP");
    until("ca.crt").await;
    assert!(before.simple_query("SELECT 1").await.is_ok());
}

/// A shard that insists on TLS, behind a proxy that does.
#[tokio::test]
async fn encrypted_all_the_way() {
    let world = World::new(2);
    let cluster = world.shards.first();
    for setting in ["ssl_cert_file = 'proxy.crt'", "ssl_key_file = 'proxy.key'"] {
        let name = setting.replace('\'', &format!("'{}/", cluster.directory().display()));
        let name = name.strip_suffix(&format!("'{}/", cluster.directory().display())).unwrap();
        cluster.execute(DATABASE, &format!("ALTER SYSTEM SET {name}'")).await.unwrap();
    }
    cluster.execute(DATABASE, "ALTER SYSTEM SET ssl = on").await.unwrap();
    cluster.execute(DATABASE, "SELECT pg_reload_conf()").await.unwrap();
    let query = format!("?sslmode=verify-full&sslrootcert={}", world.file("ca.crt"));
    let map = world.shards.map_by_hash("").replace("127.0.0.1", "localhost");
    let map: String = map
        .lines()
        .map(|line| match line.strip_prefix("url = ").and_then(|url| url.strip_suffix('"')) {
            Some(url) => format!("url = {url}{query}\"\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let proxy = Proxy::start(&world.shards, &map).await;
    let client = proxy.connect().await;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0), "{}", proxy.log());
    // The connection is used again, and one that has ended is noticed before it is.
    let worker =
        async || -> i32 { client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0) };
    let first = worker().await;
    for _ in 0..20 {
        assert_eq!(worker().await, first);
    }
    cluster
        .execute(DATABASE, &format!("SELECT pg_terminate_backend({first}, 5000)"))
        .await
        .unwrap();
    assert_ne!(worker().await, first);
    // A statement that is cancelled there, too.
    let cancel = client.cancel_token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await
    });
    let error = client.batch_execute("SELECT pg_sleep(30)").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
}
