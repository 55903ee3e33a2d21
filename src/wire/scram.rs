//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677, RFC 5929; PostgreSQL `auth-scram.c` and
//! `fe-auth-scram.c`): the server's side here, the client's in [`client`].
//!
//! [`ServerExchange`] waits for the client's first message and turns into [`AwaitingProof`], which turns
//! into [`Authenticated`]; each consumes the one before, so no message can be taken twice. Whether a user
//! exists can't be told from outside: [`Verifier::mock`] stands in for one that doesn't.
//!
//! Channel binding is `tls-server-end-point`: both sides put a hash of the server's certificate under the
//! proof, so that nobody in between can pass it on. How that hash is made is
//! [`certificate`](super::certificate)'s.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ProtocolError;
use crate::error::{SqlError, SqlState};

pub mod client;

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// The mechanism with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The only type of channel binding that PostgreSQL knows.
const BINDING_TYPE: &str = "tls-server-end-point";

/// Bytes of our part of the nonce before base64 (`SCRAM_RAW_NONCE_LEN`).
const NONCE_BYTES: usize = 18;
/// Bytes of a new salt (`SCRAM_DEFAULT_SALT_LEN`).
const SALT_BYTES: usize = 16;
/// Iterations that a verifier has unless someone chose otherwise (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
const ITERATIONS: u32 = 4096;

type Key = [u8; 32];

/// What a connection allows of channel binding, and what the client chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// No TLS, or a certificate that can't be bound to: only [`MECHANISM`] is offered.
    #[default]
    Unsupported,
    /// [`MECHANISM_PLUS`] was offered, and the client chose [`MECHANISM`].
    Declined,
    /// The client chose [`MECHANISM_PLUS`]; the server certificate's hash.
    EndPoint(Vec<u8>),
}

/// What a server keeps of a password.
#[derive(Clone)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
    /// False for a user that doesn't exist: no proof is right.
    real: bool,
}

impl Verifier {
    /// A new verifier of a password, with a random salt. Passwords are normalised by `SASLprep` where
    /// they can be and taken as bytes where not, as in PostgreSQL. Costs some milliseconds, on purpose.
    pub fn from_password(password: &[u8]) -> Self {
        let text = postgres_protocol::password::scram_sha_256(password);
        // Its own output parses; if ever it should not, nobody gets in.
        Self::parse(&text).unwrap_or_else(|| Self::mock(b"", ""))
    }

    /// Reads PostgreSQL's form, `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`
    /// (`pg_authid.rolpassword`).
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Self {
            salt: STANDARD.decode(salt).ok()?,
            iterations,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
            real: true,
        })
    }

    /// Stands in for a user that doesn't exist: the same salt each time for the same name, and no
    /// password is right. `secret` is random and lives as long as the process, so that the salt can't be
    /// recognised as made up.
    pub fn mock(secret: &[u8], user: &str) -> Self {
        let salt = hmac_sha256(secret, user.as_bytes());
        Self {
            salt: salt.first_chunk::<SALT_BYTES>().map(|salt| salt.to_vec()).unwrap_or_default(),
            iterations: ITERATIONS,
            stored_key: [0; 32],
            server_key: [0; 32],
            real: false,
        }
    }

    /// What it takes to log in elsewhere with the key of a client that has proved itself here.
    pub fn client_keys(&self, client_key: Key) -> client::Keys {
        client::Keys {
            salt: self.salt.clone(),
            iterations: self.iterations,
            client_key,
            server_key: self.server_key,
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// Why authentication did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScramError {
    /// The client doesn't speak SCRAM properly.
    Protocol(ProtocolError),
    /// The proof is wrong, or there is no such user.
    WrongPassword,
}

impl ScramError {
    /// What the client is told. The same for a wrong password and for an unknown user.
    pub fn sql_error(self, user: &str) -> SqlError {
        match self {
            ScramError::Protocol(error) => error.into(),
            ScramError::WrongPassword => SqlError::new(
                SqlState::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            ),
        }
    }
}

impl From<ProtocolError> for ScramError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// Waits for the client's first message.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    nonce: String,
    binding: Binding,
}

/// Has sent the challenge, waits for the client's proof.
#[derive(Debug)]
pub struct AwaitingProof {
    verifier: Verifier,
    /// Client's and server's nonce.
    nonce: String,
    /// The GS2 header of the first message, which the last one repeats, with what it is bound to.
    bound: Vec<u8>,
    /// The client chose channel binding.
    is_bound: bool,
    /// client-first-message-bare "," server-first-message ",".
    auth_message: String,
}

/// The client knows the password.
pub struct Authenticated {
    /// The proof that the server knows it too, for `AuthenticationSASLFinal`.
    pub server_final: String,
    /// The client's key: enough to log in elsewhere as this user where salt and iterations are the same.
    pub client_key: [u8; 32],
}

impl std::fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticated(…)")
    }
}

impl ServerExchange {
    /// Starts an exchange.
    pub fn new(verifier: Verifier, binding: Binding) -> Self {
        Self { verifier, nonce: nonce(), binding }
    }

    /// Takes client-first-message, gives server-first-message (for `AuthenticationSASLContinue`).
    ///
    /// # Errors
    ///
    /// A message that isn't SCRAM's, or asks for what isn't supported.
    pub fn first(self, message: &[u8]) -> Result<(AwaitingProof, String), ScramError> {
        let message = text(message)?;
        let (gs2_header, bare) = split_gs2_header(message, &self.binding)?;
        let mut attributes = Attributes { rest: Some(bare) };
        if attributes.peek() == Some('m') {
            return Err(ProtocolError::with_code(
                SqlState::FEATURE_NOT_SUPPORTED,
                "client requires an unsupported SCRAM extension",
            )
            .into());
        }
        // The user's name is that of the startup packet; PostgreSQL ignores this one too.
        attributes.take('n')?;
        let client_nonce = attributes.take('r')?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProtocolError::violation("non-printable characters in SCRAM nonce").into());
        }
        let nonce = format!("{client_nonce}{}", self.nonce);
        let salt = STANDARD.encode(&self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let auth_message = format!("{bare},{server_first},");
        let mut bound = gs2_header.as_bytes().to_vec();
        let is_bound = if let Binding::EndPoint(hash) = &self.binding {
            bound.extend_from_slice(hash);
            true
        } else {
            false
        };
        let next = AwaitingProof { verifier: self.verifier, nonce, bound, is_bound, auth_message };
        Ok((next, server_first))
    }
}

impl AwaitingProof {
    /// Takes client-final-message; says whether the client knows the password.
    ///
    /// # Errors
    ///
    /// A message that isn't SCRAM's or not of this exchange; a wrong proof.
    pub fn last(self, message: &[u8]) -> Result<Authenticated, ScramError> {
        let message = text(message)?;
        let mut attributes = Attributes { rest: Some(message) };
        let binding = attributes.take('c')?;
        if binding != STANDARD.encode(&self.bound) {
            if self.is_bound {
                return Err(ProtocolError::with_code(
                    SqlState::INVALID_AUTHORIZATION,
                    "SCRAM channel binding check failed",
                )
                .into());
            }
            return Err(ProtocolError::violation(
                "unexpected SCRAM channel-binding attribute in client-final-message",
            )
            .into());
        }
        if attributes.take('r')? != self.nonce {
            return Err(ProtocolError::violation("invalid SCRAM response")
                .detail("Nonce does not match.")
                .into());
        }
        let proof = attributes.take_proof()?;
        // The proof is the last attribute: everything before it is signed.
        let signed = message.rfind(",p=").and_then(|at| message.get(..at)).unwrap_or_default();
        self.verify(signed, proof)
    }

    fn verify(self, signed: &str, proof: Key) -> Result<Authenticated, ScramError> {
        let auth_message = self.auth_message + signed;
        let signature = hmac_sha256(&self.verifier.stored_key, auth_message.as_bytes());
        let client_key = xor(proof, signature);
        let right = sha256(&client_key).ct_eq(&self.verifier.stored_key);
        if !bool::from(right) || !self.verifier.real {
            return Err(ScramError::WrongPassword);
        }
        let server_signature = hmac_sha256(&self.verifier.server_key, auth_message.as_bytes());
        Ok(Authenticated {
            server_final: format!("v={}", STANDARD.encode(server_signature)),
            client_key,
        })
    }
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> ProtocolError {
    ProtocolError::violation("malformed SCRAM message").detail(detail)
}

fn text(message: &[u8]) -> Result<&str, ProtocolError> {
    if message.is_empty() {
        return Err(malformed("The message is empty."));
    }
    if message.contains(&0) {
        return Err(malformed("Message length does not match input length."));
    }
    std::str::from_utf8(message).map_err(|_| malformed("The message is not valid UTF-8."))
}

/// Splits client-first-message into its GS2 header (with both commas) and the rest. The header must fit the
/// mechanism that the client chose.
fn split_gs2_header<'m>(
    message: &'m str,
    binding: &Binding,
) -> Result<(&'m str, &'m str), ProtocolError> {
    let Some((flag, rest)) = message.split_once(',') else {
        check_flag(message, binding)?;
        return Err(malformed("Comma expected after the channel-binding flag."));
    };
    check_flag(flag, binding)?;
    if rest.starts_with("a=") {
        return Err(ProtocolError::with_code(
            SqlState::FEATURE_NOT_SUPPORTED,
            "client uses authorization identity, but it is not supported",
        ));
    }
    let Some(bare) = rest.strip_prefix(',') else {
        return Err(malformed("Unexpected attribute in client-first-message."));
    };
    Ok((message.get(..message.len() - bare.len()).unwrap_or_default(), bare))
}

/// The channel-binding flag: `n` (the client can't), `y` (it can, and believes that the server can't), or
/// `p=` and the type of binding.
fn check_flag(flag: &str, binding: &Binding) -> Result<(), ProtocolError> {
    let chose_plus = matches!(binding, Binding::EndPoint(_));
    match (flag.chars().next(), binding) {
        (Some('n' | 'y'), Binding::EndPoint(_)) => Err(malformed(
            "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel \
             binding data.",
        )),
        (Some('y'), Binding::Declined) => Err(ProtocolError::with_code(
            SqlState::INVALID_AUTHORIZATION,
            "SCRAM channel binding negotiation error",
        )
        .detail(
            "The client supports SCRAM channel binding but thinks the server does not.  However, this \
             server does support channel binding.",
        )),
        (Some('n' | 'y'), _) if flag.len() == 1 => Ok(()),
        (Some('n' | 'y'), _) => Err(malformed("Comma expected after the channel-binding flag.")),
        (Some('p'), _) if !chose_plus => Err(malformed(
            "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message \
             includes channel binding data.",
        )),
        (Some('p'), _) => match flag.strip_prefix("p=") {
            Some(BINDING_TYPE) => Ok(()),
            Some(other) => {
                let other: String = other.chars().flat_map(char::escape_default).take(40).collect();
                Err(ProtocolError::violation(format!(
                    "unsupported SCRAM channel-binding type \"{other}\""
                )))
            }
            None => Err(malformed("Attribute expected, but found invalid characters.")),
        },
        (other, _) => {
            let other = shown(other.unwrap_or(','));
            Err(malformed(format!("Unexpected channel-binding flag \"{other}\".")))
        }
    }
}

fn shown(character: char) -> String {
    character.escape_default().take(10).collect()
}

/// `a=value` pairs, separated by commas.
struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.and_then(|rest| rest.chars().next())
    }

    fn take(&mut self, name: char) -> Result<&'a str, ProtocolError> {
        let (found, value) = self.next()?;
        if found == name {
            return Ok(value);
        }
        let found = shown(found);
        Err(malformed(format!("Expected attribute \"{name}\" but found \"{found}\".")))
    }

    fn next(&mut self) -> Result<(char, &'a str), ProtocolError> {
        let Some(rest) = self.rest else {
            return Err(malformed("Attribute expected, but found end of message."));
        };
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let mut chars = attribute.chars();
        let name = chars.next().filter(char::is_ascii_alphabetic);
        match (name, chars.next()) {
            (Some(name), Some('=')) => Ok((name, chars.as_str())),
            _ => Err(malformed("Attribute expected, but found invalid characters.")),
        }
    }

    /// Skips optional extensions up to the proof, which is last.
    fn take_proof(&mut self) -> Result<Key, ProtocolError> {
        loop {
            let (name, value) = self.next()?;
            if name != 'p' {
                continue;
            }
            if self.rest.is_some() {
                return Err(malformed("Garbage found at the end of client-final-message."));
            }
            let proof = STANDARD.decode(value).ok().and_then(|bytes| bytes.try_into().ok());
            return proof.ok_or_else(|| malformed("Malformed proof in client-final-message."));
        }
    }
}

/// Our part of an exchange's nonce.
fn nonce() -> String {
    let mut nonce = [0; NONCE_BYTES];
    rand::rng().fill_bytes(&mut nonce);
    STANDARD.encode(nonce)
}

/// One masks the other.
fn xor(mut key: Key, mask: Key) -> Key {
    key.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    key
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn sha256(message: &[u8]) -> Key {
    Sha256::digest(message).into()
}

#[cfg(test)]
mod tests;
