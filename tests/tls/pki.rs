//! Certificates of our own, in files that PostgreSQL, libpq and the proxy take.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use pgmeridian::demo::cluster::Cluster;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) pem: String,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Signs a certificate; `hosts` are its alternative names.
    pub(crate) fn issue(&self, common_name: &str, hosts: &[&str]) -> Pair {
        let mut params = named(common_name);
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into().unwrap()),
            });
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }
}

/// A server that signed its own certificate, as the manual's first example makes it.
pub(crate) fn self_signed(common_name: &str) -> Pair {
    let mut params = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Pair { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// Writes a file that only the server's user can read, which is what PostgreSQL and libpq ask of keys.
/// Like a renewal it is replaced at once.
pub(crate) fn write(cluster: &Cluster, name: &str, text: &str) -> PathBuf {
    let mut shell = cluster
        .command("/bin/sh")
        .args(["-c", "umask 077; cat > \"$1.new\" && mv \"$1.new\" \"$1\"", "sh", name])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    cluster.directory().join(name)
}

/// Writes `name.crt` and `name.key`.
pub(crate) fn write_pair(cluster: &Cluster, name: &str, pair: &Pair) -> (PathBuf, PathBuf) {
    let cert = write(cluster, &format!("{name}.crt"), &pair.cert);
    (cert, write(cluster, &format!("{name}.key"), &pair.key))
}
