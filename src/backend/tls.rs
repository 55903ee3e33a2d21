//! TLS to shards: what libpq's `sslmode`, `sslrootcert`, `sslcert` and `sslkey` mean (PostgreSQL manual,
//! "SSL Support"), said to rustls.
//!
//! [`handshake`] encrypts a socket; what it needs is read from the files once and kept for as long as
//! they don't change, so that a renewed certificate is taken by the next connection.
//!
//! Absent: revocation lists, passphrases of keys, protocols before TLS 1.2.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::BackendError;
use super::target::{Host, SslMode, Target, TlsOptions};
use crate::wire::certificate::Certificate;

/// The protocol's name among TLS's (manual, "SSL Session Encryption").
const ALPN: &[u8] = b"postgresql";

/// How long the system's own authorities are believed before they are read again.
const SYSTEM_ROOTS_TTL: Duration = Duration::from_secs(3600);

/// Most sets of files that are kept.
const CONFIGS_MAX: usize = 64;

/// Encrypts a connection; the server's certificate is checked as the target's `sslmode` says.
///
/// # Errors
///
/// [`BackendError::Tls`]: a file can't be read, the certificate isn't trusted or is another host's, or no
/// common ground was found. [`BackendError::Connect`]: the connection broke.
pub(super) async fn handshake(
    target: &Target,
    socket: TcpStream,
) -> Result<Box<TlsStream<TcpStream>>, BackendError> {
    let Host::Tcp(host) = &target.host else {
        return Err(BackendError::Tls("unix-domain sockets are not encrypted".to_owned()));
    };
    let name = ServerName::try_from(host.clone())
        .map_err(|_| BackendError::Tls(format!("\"{host}\" is not a host's name")))?;
    let config = config(target)?;
    let connector = TlsConnector::from(config);
    let stream = connector.connect(name, socket).await.map_err(blame)?;
    if target.tls.direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(BackendError::Tls(
            "direct TLS connection was established without ALPN protocol negotiation".to_owned(),
        ));
    }
    if target.ssl_mode == SslMode::VerifyFull {
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        check_host(certificates.first(), host)?;
    }
    Ok(Box::new(stream))
}

/// The hash that SCRAM binds to, of the certificate that the server has shown.
pub(super) fn end_point_hash(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    Certificate::parse(certificate)?.end_point_hash()
}

fn check_host(certificate: Option<&CertificateDer<'_>>, host: &str) -> Result<(), BackendError> {
    let certificate = certificate.and_then(|der| Certificate::parse(der));
    match certificate {
        Some(certificate) if certificate.is_for(host) => Ok(()),
        Some(certificate) => {
            let whose = certificate.common_name().unwrap_or("another host");
            Err(BackendError::Tls(format!(
                "server certificate for \"{whose}\" does not match host name \"{host}\""
            )))
        }
        None => Err(BackendError::Tls("the server's certificate can't be read".to_owned())),
    }
}

/// TLS that failed is not a shard that is down: rustls wraps its errors in io's.
fn blame(error: io::Error) -> BackendError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => {
            BackendError::Tls(format!("the server's certificate is not trusted: {why}"))
        }
        Some(error) => BackendError::Tls(error.to_string()),
        None => BackendError::Connect(error),
    }
}

/// What a config is made of: files and how strictly they are used.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    verify: Verify,
    root_cert: Option<RootCert>,
    cert: Option<(PathBuf, PathBuf)>,
    direct: bool,
}

/// What is asked of the server's certificate. Its name is [`check_host`]'s.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Verify {
    Nothing,
    Authority,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum RootCert {
    System,
    File(PathBuf),
}

/// When files were last changed, and how long they are.
#[derive(Clone, PartialEq, Eq)]
struct Stamp(Vec<Option<(SystemTime, u64)>>);

struct Known {
    stamp: Stamp,
    read: Instant,
    config: Arc<ClientConfig>,
}

fn config(target: &Target) -> Result<Arc<ClientConfig>, BackendError> {
    static KNOWN: Mutex<Option<HashMap<Key, Known>>> = Mutex::new(None);
    let key = Key::of(target.ssl_mode, &target.tls)?;
    let stamp = key.stamp();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(known) = known.get(&key)
        && known.stamp == stamp
        && (key.root_cert != Some(RootCert::System) || known.read.elapsed() < SYSTEM_ROOTS_TTL)
    {
        return Ok(Arc::clone(&known.config));
    }
    let config = Arc::new(key.build()?);
    if known.len() >= CONFIGS_MAX {
        known.clear();
    }
    known.insert(key, Known { stamp, read: Instant::now(), config: Arc::clone(&config) });
    Ok(config)
}

/// libpq's default files.
fn at_home(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("HOME")?).join(".postgresql").join(name);
    path.exists().then_some(path)
}

impl Key {
    fn of(mode: SslMode, options: &TlsOptions) -> Result<Self, BackendError> {
        let root_cert = match options.root_cert.as_deref() {
            Some("system") => Some(RootCert::System),
            Some(path) => Some(RootCert::File(path.into())),
            None => at_home("root.crt").map(RootCert::File),
        };
        // A root certificate that is there is used, whatever the mode (libpq, for compatibility with
        // itself); one that must be there and isn't is an error.
        let must_verify = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let exists = match &root_cert {
            Some(RootCert::System) => true,
            Some(RootCert::File(path)) => path.exists(),
            None => false,
        };
        if must_verify && !exists {
            let file = match &root_cert {
                Some(RootCert::File(path)) => path.display().to_string(),
                _ => "~/.postgresql/root.crt".to_owned(),
            };
            return Err(BackendError::Tls(format!(
                "root certificate file \"{file}\" does not exist (sslmode={} needs sslrootcert)",
                mode.word()
            )));
        }
        let cert = options.cert.as_deref().map(PathBuf::from).or_else(|| at_home("postgresql.crt"));
        let cert = cert.map(|cert| {
            let key = options.key.as_deref().map(PathBuf::from);
            let key = key.or_else(|| at_home("postgresql.key")).unwrap_or_else(|| cert.clone());
            (cert, key)
        });
        let verify = if exists { Verify::Authority } else { Verify::Nothing };
        Ok(Self { verify, root_cert: root_cert.filter(|_| exists), cert, direct: options.direct })
    }

    fn stamp(&self) -> Stamp {
        let root = match &self.root_cert {
            Some(RootCert::File(path)) => Some(path.as_path()),
            _ => None,
        };
        let own = self.cert.iter().flat_map(|(cert, key)| [cert.as_path(), key.as_path()]);
        let of = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        Stamp(root.into_iter().chain(own).map(of).collect())
    }

    fn build(&self) -> Result<ClientConfig, BackendError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            roots: self.roots()?,
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| BackendError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.cert {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(
                    |error| unreadable(cert, &format!("certificate and key don't fit: {error}")),
                )?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // PostgreSQL resumes nothing.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self) -> Result<Option<Roots>, BackendError> {
        if self.verify == Verify::Nothing {
            return Ok(None);
        }
        let given = match &self.root_cert {
            None => return Ok(None),
            Some(RootCert::File(path)) => certificates(path)?,
            Some(RootCert::System) => {
                let found = rustls_native_certs::load_native_certs();
                if found.certs.is_empty() {
                    let why = found.errors.first().map_or_else(String::new, |e| format!(": {e}"));
                    let message = format!("the system has no certificate authorities{why}");
                    return Err(BackendError::Tls(message));
                }
                found.certs
            }
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(given.iter().cloned());
        Ok(Some(Roots { store, given }))
    }
}

fn unreadable(path: &Path, why: &str) -> BackendError {
    BackendError::Tls(format!("\"{}\" can't be used: {why}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BackendError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| unreadable(path, &error.to_string()))?;
    if found.is_empty() {
        return Err(unreadable(path, "there is no certificate in it"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, BackendError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, &error.to_string()))
}

#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    given: Vec<CertificateDer<'static>>,
}

/// Checks who signed the server's certificate, or nothing; the handshake's own signature always: it shows
/// that the server has the certificate's key. The host's name is looked at afterwards.
#[derive(Debug)]
struct Verifier {
    roots: Option<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        // A server that signed its own certificate, which is then its own authority: the manual's first
        // example makes such a one, and webpki takes none of them.
        if roots.given.iter().any(|root| root == end_entity) {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            return match Certificate::parse(end_entity) {
                Some(certificate) if certificate.is_valid_at(now) => {
                    Ok(ServerCertVerified::assertion())
                }
                Some(_) => Err(CertificateError::Expired.into()),
                None => Err(CertificateError::BadEncoding.into()),
            };
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots.store,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
