//! The client's side of SCRAM: with a password, or with the keys of a user who has proved to know it.
//!
//! [`ClientExchange`] makes client-first-message, turns into [`AwaitingServer`] with the server's
//! challenge, which checks the server's own proof: a server that can't show that it knows the password is
//! not the one that was meant.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{Attributes, BINDING_TYPE, Key, hmac_sha256, nonce, sha256, text, xor};
use crate::wire::ProtocolError;

/// More iterations than this are refused: deriving a key must not keep a thread busy for seconds because
/// a server says so (libpq's `scram_max_iterations` has the same default).
const ITERATIONS_MAX: u32 = 100_000;

/// Keys that were made of a password with one salt and number of iterations; they prove as much as the
/// password where these are the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) client_key: Key,
    pub(super) server_key: Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What proves who we are.
#[derive(Clone)]
pub enum Credentials {
    /// The password, and what was made of it before: keys for the same salt need not be made again.
    Password(Vec<u8>, Option<Keys>),
    /// Keys made of it.
    Keys(Keys),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// What we can do about channel binding, and what the server offers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBinding<'a> {
    /// We can't, or are told not to: flag `n`.
    Unsupported,
    /// We could, and the server does not offer it: flag `y`, so that it notices if its offer was cut out.
    NotOffered,
    /// The hash of the server's certificate.
    EndPoint(&'a [u8]),
}

/// Why the exchange failed on this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The server doesn't speak SCRAM properly.
    Protocol(ProtocolError),
    /// The keys were made with another salt or number of iterations.
    OtherKeys,
    /// It wants too many iterations.
    Iterations(u32),
    /// The server said no (`e=`).
    Refused(String),
    /// The server's own proof is wrong.
    ServerUnproven,
}

impl From<ProtocolError> for ClientError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(error) => write!(f, "{error}"),
            Self::OtherKeys => f.write_str("the password is stored there with another salt"),
            Self::Iterations(count) => {
                write!(f, "it asks for {count} iterations, more than {ITERATIONS_MAX}")
            }
            Self::Refused(why) => write!(f, "it says {why}"),
            Self::ServerUnproven => {
                f.write_str("it could not prove that it knows the user's password")
            }
        }
    }
}

/// Has made the first message, waits for the challenge.
#[derive(Debug)]
pub struct ClientExchange {
    credentials: Credentials,
    nonce: String,
    gs2_header: String,
    /// The GS2 header and what the exchange is bound to.
    bound: Vec<u8>,
}

/// Has sent its proof, waits for the server's.
pub struct AwaitingServer {
    server_signature: Key,
    keys: Keys,
}

impl std::fmt::Debug for AwaitingServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AwaitingServer(…)")
    }
}

impl ClientExchange {
    /// Starts an exchange.
    pub fn new(credentials: Credentials, binding: ClientBinding<'_>) -> Self {
        Self::with_nonce(credentials, binding, nonce())
    }

    pub(super) fn with_nonce(
        credentials: Credentials,
        binding: ClientBinding<'_>,
        nonce: String,
    ) -> Self {
        let (gs2_header, data): (_, &[u8]) = match binding {
            ClientBinding::Unsupported => ("n,,".to_owned(), &[]),
            ClientBinding::NotOffered => ("y,,".to_owned(), &[]),
            ClientBinding::EndPoint(hash) => (format!("p={BINDING_TYPE},,"), hash),
        };
        let bound = [gs2_header.as_bytes(), data].concat();
        Self { credentials, nonce, gs2_header, bound }
    }

    /// client-first-message. The user's name is that of the startup packet.
    pub fn first(&self) -> String {
        format!("{}n=,r={}", self.gs2_header, self.nonce)
    }

    /// Takes server-first-message, gives client-final-message. With a password this costs as much as the
    /// server asks for: about a millisecond per 4096 iterations.
    ///
    /// # Errors
    ///
    /// A message that isn't SCRAM's or not of this exchange; keys that don't fit it.
    pub fn challenged(self, message: &[u8]) -> Result<(AwaitingServer, String), ClientError> {
        let message = text(message)?;
        let mut attributes = Attributes { rest: Some(message) };
        let nonce = attributes.take('r')?;
        let salt = attributes.take('s')?;
        let iterations = attributes.take('i')?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ProtocolError::violation("invalid SCRAM response (nonce mismatch)").into());
        }
        let salt = STANDARD
            .decode(salt)
            .map_err(|_| ProtocolError::violation("malformed SCRAM message (invalid salt)"))?;
        let iterations: u32 =
            iterations.parse().ok().filter(|count| *count > 0).ok_or_else(|| {
                ProtocolError::violation("malformed SCRAM message (invalid iteration count)")
            })?;
        let keys = self.credentials.keys(salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.bound));
        let auth_message = format!("n=,r={},{message},{without_proof}", self.nonce);
        let signature = hmac_sha256(&sha256(&keys.client_key), auth_message.as_bytes());
        let proof = STANDARD.encode(xor(keys.client_key, signature));
        let server_signature = hmac_sha256(&keys.server_key, auth_message.as_bytes());
        Ok((AwaitingServer { server_signature, keys }, format!("{without_proof},p={proof}")))
    }
}

impl Credentials {
    fn keys(self, salt: Vec<u8>, iterations: u32) -> Result<Keys, ClientError> {
        match self {
            Self::Keys(keys) | Self::Password(_, Some(keys)) if keys.are_for(&salt, iterations) => {
                Ok(keys)
            }
            Self::Keys(_) => Err(ClientError::OtherKeys),
            Self::Password(..) if iterations > ITERATIONS_MAX => {
                Err(ClientError::Iterations(iterations))
            }
            Self::Password(password, _) => Ok(Keys::derive(&password, salt, iterations)),
        }
    }
}

impl Keys {
    fn are_for(&self, salt: &[u8], iterations: u32) -> bool {
        self.salt == salt && self.iterations == iterations
    }

    fn derive(password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let mut salted = Key::default();
        pbkdf2::pbkdf2_hmac::<Sha256>(&normalize(password), &salt, iterations, &mut salted);
        let client_key = hmac_sha256(&salted, b"Client Key");
        let server_key = hmac_sha256(&salted, b"Server Key");
        Self { salt, iterations, client_key, server_key }
    }
}

/// `SASLprep` where the password allows it, the bytes themselves where not (`pg_saslprep`).
fn normalize(password: &[u8]) -> Vec<u8> {
    std::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
        .map_or_else(|| password.to_vec(), |text| text.into_owned().into_bytes())
}

impl AwaitingServer {
    /// Takes server-final-message; the server must have proved that it knows the password too. Gives the
    /// keys that did, for the next time.
    ///
    /// # Errors
    ///
    /// It has not.
    pub fn finish(self, message: &[u8]) -> Result<Keys, ClientError> {
        let message = text(message)?;
        if let Some(why) = message.strip_prefix("e=") {
            return Err(ClientError::Refused(why.chars().take(100).collect()));
        }
        let signature = Attributes { rest: Some(message) }.take('v')?;
        let signature = STANDARD.decode(signature).unwrap_or_default();
        if bool::from(signature.ct_eq(&self.server_signature)) {
            Ok(self.keys)
        } else {
            Err(ClientError::ServerUnproven)
        }
    }
}
