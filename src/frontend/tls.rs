//! TLS towards clients: the certificate, and its renewal while clients are served.
//!
//! [`ServerTls`] holds what new connections are greeted with. Files that have changed are read again as a
//! whole or not at all: while a new certificate lies beside the old key, the old pair stays.
//!
//! Absent: revocation lists, passphrases of keys, session tickets (PostgreSQL has none), protocols before
//! TLS 1.2.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config;
use crate::wire::certificate::Certificate;

/// The protocol's name among TLS's (manual, "SSL Session Encryption").
pub(super) const ALPN: &[u8] = b"postgresql";

/// What clients are greeted with.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    /// What SCRAM can be bound to; `None` for a certificate that nothing can be bound to.
    pub(super) end_point_hash: Option<Vec<u8>>,
}

/// A file of `[listen] tls` that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("\"{}\" can't be used: {why}", file.display())]
pub struct TlsFault {
    file: PathBuf,
    why: String,
}

/// When each file was last changed, and how long it is.
type Stamp = Vec<Option<(SystemTime, u64)>>;

/// TLS towards clients.
pub struct ServerTls {
    settings: config::Tls,
    current: ArcSwap<Identity>,
    read: Mutex<Stamp>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One that can't be read, or does not fit the others.
    pub fn load(settings: &config::Tls) -> Result<Self, TlsFault> {
        let stamp = stamp(settings);
        let identity = Identity::load(settings)?;
        Ok(Self {
            settings: settings.clone(),
            current: ArcSwap::from_pointee(identity),
            read: Mutex::new(stamp),
        })
    }

    /// Reads the files again; connections that are there keep what they have.
    ///
    /// # Errors
    ///
    /// As [`Self::load`]; the old certificate stays.
    pub fn reload(&self) -> Result<(), TlsFault> {
        // Taken first, so that a change in between is seen the next time.
        let stamp = stamp(&self.settings);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        self.current.store(Arc::new(Identity::load(&self.settings)?));
        Ok(())
    }

    /// Reads the files again if they have changed since they were last read; true if so.
    ///
    /// # Errors
    ///
    /// As [`Self::reload`]: once for each change.
    pub fn follow(&self) -> Result<bool, TlsFault> {
        if *self.read.lock().unwrap_or_else(PoisonError::into_inner) == stamp(&self.settings) {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }

    /// Clients must use it.
    pub(super) fn is_required(&self) -> bool {
        self.settings.required
    }

    pub(super) fn current(&self) -> Arc<Identity> {
        self.current.load_full()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn stamp(settings: &config::Tls) -> Stamp {
    let files = [Some(&settings.cert), Some(&settings.key), settings.client_ca.as_ref()];
    let of = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len()))
    };
    files.into_iter().flatten().map(of).collect()
}

impl Identity {
    fn load(settings: &config::Tls) -> Result<Self, TlsFault> {
        let chain = certificates(&settings.cert)?;
        let hash = chain.first().and_then(|leaf| Certificate::parse(leaf)?.end_point_hash());
        let key = PrivateKeyDer::from_pem_file(&settings.key)
            .map_err(|error| fault(&settings.key, &error))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(&settings.cert, &error))?;
        let builder = match &settings.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| fault(path, &error))?;
                }
                // A client may come without: whether that will do is the method's to say.
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|error| fault(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| fault(&settings.cert, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), end_point_hash: hash })
    }
}

fn fault(file: &Path, why: &impl ToString) -> TlsFault {
    TlsFault { file: file.to_owned(), why: why.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| fault(path, &error))?;
    if found.is_empty() {
        return Err(fault(path, &"there is no certificate in it"));
    }
    Ok(found)
}
