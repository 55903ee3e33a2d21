//! What an X.509 certificate says: whose it is, for how long, and the hash that SCRAM binds to.
//!
//! [`Certificate`] is a view of the DER bytes. Signatures and chains are not its job: the TLS library
//! checks them before anybody looks here. Names are compared as libpq compares them
//! (`fe-secure-common.c`), which a TLS library does not: the common name counts where there is no
//! alternative name of the host's kind.

use std::net::IpAddr;

use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// A certificate that could be read.
#[derive(Debug)]
pub struct Certificate<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate; `None` for bytes that are none.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then_some(Self { der, parsed })
    }

    /// The subject's common name, the first one as in PostgreSQL; `None` if there is none, or one with a
    /// NUL in it, which could be taken for another name.
    pub fn common_name(&self) -> Option<&str> {
        let name = self.parsed.subject().iter_common_name().next()?.as_str().ok()?;
        (!name.is_empty() && !name.contains('\0')).then_some(name)
    }

    /// It has begun and has not ended, at a time in seconds since 1970.
    pub fn is_valid_at(&self, unix_seconds: i64) -> bool {
        ASN1Time::from_timestamp(unix_seconds)
            .is_ok_and(|time| self.parsed.validity().is_valid_at(time))
    }

    /// The hash for `tls-server-end-point` (RFC 5929, section 4.1): that of the certificate's signature,
    /// SHA-256 where that one is MD5 or SHA-1. `None` where the signature has no hash of its own
    /// (Ed25519): nothing can be bound to then, in PostgreSQL neither.
    pub fn end_point_hash(&self) -> Option<Vec<u8>> {
        let algorithm = &self.parsed.signature_algorithm;
        let mut name = algorithm.algorithm.to_id_string();
        if name == RSA_PSS {
            pss_hash(algorithm.parameters.as_ref()?.data).clone_into(&mut name);
        }
        match name.as_str() {
            // RSA and ECDSA with MD5 or SHA-1, SHA-1 itself (the default of RSA-PSS), then SHA-256.
            "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.2.840.10045.4.1"
            | "1.3.14.3.2.26"
            | "1.2.840.113549.1.1.11"
            | "1.2.840.10045.4.3.2"
            | "2.16.840.1.101.3.4.2.1" => Some(Sha256::digest(self.der).to_vec()),
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => {
                Some(Sha384::digest(self.der).to_vec())
            }
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => {
                Some(Sha512::digest(self.der).to_vec())
            }
            _ => None,
        }
    }

    /// The certificate is for this host, a name or an address.
    pub fn is_for(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let mut kind_is_named = false;
        if let Ok(Some(names)) = self.parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => {
                        kind_is_named |= address.is_none();
                        if names_host(name, host) {
                            return true;
                        }
                    }
                    GeneralName::IPAddress(bytes) => {
                        kind_is_named |= address.is_some();
                        if address.is_some_and(|address| is_address(bytes, address)) {
                            return true;
                        }
                    }
                    _ => {}
                }
            }
        }
        !kind_is_named && self.common_name().is_some_and(|name| names_host(name, host))
    }
}

const RSA_PSS: &str = "1.2.840.113549.1.1.10";

/// The hash in the parameters of an RSA-PSS signature (RFC 4055, section 3.1): the first field, SHA-1 when
/// it is left out. Its object identifier's bytes can't be anything else's within these parameters, for the
/// mask generation repeats it.
fn pss_hash(parameters: &[u8]) -> &'static str {
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let found = parameters.windows(SHA2.len() + 1).find(|window| window.starts_with(SHA2));
    match found.and_then(|window| window.last()) {
        Some(1) => "2.16.840.1.101.3.4.2.1",
        Some(2) => "2.16.840.1.101.3.4.2.2",
        Some(3) => "2.16.840.1.101.3.4.2.3",
        _ => "1.3.14.3.2.26",
    }
}

/// A name of a certificate, perhaps with `*.` before it, is that of the host. The wildcard stands for one
/// label.
fn names_host(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let Some(domain) = pattern.strip_prefix("*.").filter(|domain| !domain.is_empty()) else {
        return false;
    };
    let is_name = host.parse::<IpAddr>().is_err();
    is_name
        && host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain))
}

fn is_address(bytes: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => bytes == address.octets(),
        IpAddr::V6(address) => bytes == address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common_name: Option<&str>, names: &[&str], key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            });
        }
        params.self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_compared_as_libpq_does() {
        let key = KeyPair::generate().unwrap();
        let check = |common_name: Option<&str>, names: &[&str], host: &str, expect: bool| {
            let der = certificate(common_name, names, &key);
            let found = Certificate::parse(&der).unwrap().is_for(host);
            assert_eq!(found, expect, "{common_name:?} {names:?} {host}");
        };
        check(Some("db.example"), &[], "db.example", true);
        check(Some("db.example"), &[], "DB.Example", true);
        check(Some("db.example"), &[], "db.example.org", false);
        check(Some("db.example"), &["other.example"], "db.example", false);
        check(Some("db.example"), &["other.example"], "other.example", true);
        check(Some("db.example"), &["127.0.0.1"], "db.example", true);
        check(Some("127.0.0.1"), &["db.example"], "127.0.0.1", true);
        check(Some("127.0.0.1"), &["10.0.0.1"], "127.0.0.1", false);
        check(None, &["127.0.0.1", "::1"], "127.0.0.1", true);
        check(None, &["127.0.0.1", "::1"], "::1", true);
        check(None, &["127.0.0.1"], "127.0.0.2", false);
        check(None, &["*.example.org"], "a.example.org", true);
        check(None, &["*.example.org"], "A.EXAMPLE.ORG", true);
        check(None, &["*.example.org"], "a.b.example.org", false);
        check(None, &["*.example.org"], "example.org", false);
        check(None, &["*.example.org"], ".example.org", false);
        check(None, &["*.0.0.1"], "127.0.0.1", false);
        check(None, &[], "db.example", false);
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let check = |algorithm, length: Option<usize>| {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let der = certificate(Some("a"), &[], &key);
            let hash = Certificate::parse(&der).unwrap().end_point_hash();
            assert_eq!(hash.map(|hash| hash.len()), length);
        };
        check(&rcgen::PKCS_ECDSA_P256_SHA256, Some(32));
        check(&rcgen::PKCS_ECDSA_P384_SHA384, Some(48));
        check(&rcgen::PKCS_ED25519, None);
    }

    #[test]
    fn the_common_name_and_the_validity() {
        let key = KeyPair::generate().unwrap();
        let der = certificate(Some("bot"), &[], &key);
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.common_name(), Some("bot"));
        // rcgen's own default: from 1975 to 4096.
        assert!(certificate.is_valid_at(1_700_000_000));
        assert!(!certificate.is_valid_at(0));
        assert!(Certificate::parse(&der[..der.len() - 1]).is_none());
        assert!(Certificate::parse(&[der.as_slice(), &[0]].concat()).is_none());
        assert!(Certificate::parse(b"").is_none());
    }

    #[test]
    fn the_hash_of_rsa_pss_stands_in_its_parameters() {
        // RSASSA-PSS with SHA-384: [0] { sequence { oid } }, then the mask generation.
        let sha384 = [0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5];
        assert_eq!(pss_hash(&sha384), "2.16.840.1.101.3.4.2.2");
        assert_eq!(pss_hash(&[]), "1.3.14.3.2.26");
    }
}
