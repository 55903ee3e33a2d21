//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677; PostgreSQL `auth-scram.c`), without channel
//! binding.
//!
//! [`ServerExchange`] waits for the client's first message and turns into [`AwaitingProof`], which turns
//! into [`Authenticated`]; each consumes the one before, so no message can be taken twice. Whether a user
//! exists can't be told from outside: [`Verifier::mock`] stands in for one that doesn't.
//!
//! Absent: channel binding (`SCRAM-SHA-256-PLUS`), which needs TLS; the client's side, which is
//! `postgres_protocol`'s.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ProtocolError;
use crate::error::{SqlError, SqlState};

/// The only mechanism on offer.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Bytes of our part of the nonce before base64 (`SCRAM_RAW_NONCE_LEN`).
const NONCE_BYTES: usize = 18;
/// Bytes of a new salt (`SCRAM_DEFAULT_SALT_LEN`).
const SALT_BYTES: usize = 16;
/// Iterations that a verifier has unless someone chose otherwise (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
const ITERATIONS: u32 = 4096;

type Key = [u8; 32];

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
}

/// Has sent the challenge, waits for the client's proof.
#[derive(Debug)]
pub struct AwaitingProof {
    verifier: Verifier,
    /// Client's and server's nonce.
    nonce: String,
    /// The GS2 header of the first message, which the last one repeats.
    gs2_header: String,
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
    pub fn new(verifier: Verifier) -> Self {
        let mut nonce = [0; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        Self::with_nonce(verifier, STANDARD.encode(nonce))
    }

    fn with_nonce(verifier: Verifier, nonce: String) -> Self {
        Self { verifier, nonce }
    }

    /// Takes client-first-message, gives server-first-message (for `AuthenticationSASLContinue`).
    ///
    /// # Errors
    ///
    /// A message that isn't SCRAM's, or asks for what isn't supported.
    pub fn first(self, message: &[u8]) -> Result<(AwaitingProof, String), ScramError> {
        let message = text(message)?;
        let (gs2_header, bare) = split_gs2_header(message)?;
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
        let gs2_header = gs2_header.to_owned();
        let next = AwaitingProof { verifier: self.verifier, nonce, gs2_header, auth_message };
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
        if binding != STANDARD.encode(&self.gs2_header) {
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
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
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

/// Splits client-first-message into its GS2 header (with both commas) and the rest.
fn split_gs2_header(message: &str) -> Result<(&str, &str), ProtocolError> {
    let flag = message.chars().next().unwrap_or_default();
    match flag {
        // 'y': the client could bind the channel and believes that we could not, which is true.
        'n' | 'y' => {}
        'p' => {
            return Err(malformed(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message \
                 includes channel binding data.",
            ));
        }
        other => {
            return Err(malformed(format!(
                "Unexpected channel-binding flag \"{}\".",
                shown(other)
            )));
        }
    }
    let after_flag = message.get(1..).and_then(|rest| rest.strip_prefix(','));
    let Some(after_flag) = after_flag else {
        return Err(malformed("Comma expected after the channel-binding flag."));
    };
    if after_flag.starts_with("a=") {
        return Err(ProtocolError::with_code(
            SqlState::FEATURE_NOT_SUPPORTED,
            "client uses authorization identity, but it is not supported",
        ));
    }
    let Some(bare) = after_flag.strip_prefix(',') else {
        return Err(malformed("Unexpected attribute in client-first-message."));
    };
    Ok((message.get(..3).unwrap_or_default(), bare))
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

fn hmac_sha256(key: &[u8], message: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn sha256(message: &[u8]) -> Key {
    Sha256::digest(message).into()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 7677, section 3.
    const RFC_SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const RFC_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn rfc_verifier() -> Verifier {
        static VERIFIER: LazyLock<Verifier> = LazyLock::new(derive_rfc_verifier);
        VERIFIER.clone()
    }

    fn derive_rfc_verifier() -> Verifier {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(b"pencil", &salt, 4096, &mut salted);
        Verifier {
            salt,
            iterations: 4096,
            stored_key: sha256(&hmac_sha256(&salted, b"Client Key")),
            server_key: hmac_sha256(&salted, b"Server Key"),
            real: true,
        }
    }

    fn rfc_exchange() -> AwaitingProof {
        let exchange = ServerExchange::with_nonce(rfc_verifier(), RFC_SERVER_NONCE.to_owned());
        let (next, challenge) = exchange.first(RFC_FIRST).unwrap();
        assert_eq!(
            challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        next
    }

    #[test]
    fn the_rfc_s_example() {
        let done = rfc_exchange().last(RFC_FINAL.as_bytes()).unwrap();
        assert_eq!(done.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(sha256(&done.client_key), rfc_verifier().stored_key);
    }

    fn exchange_with_client(verifier: Verifier, password: &[u8]) -> Result<(), ScramError> {
        let mut client = ScramSha256::new(password, ChannelBinding::unsupported());
        let (server, challenge) = ServerExchange::new(verifier).first(client.message())?;
        client.update(challenge.as_bytes()).unwrap();
        let done = server.last(client.message())?;
        client.finish(done.server_final.as_bytes()).unwrap();
        Ok(())
    }

    #[test]
    fn passwords() {
        let check = |verifier: &str, password: &str, right: bool| {
            let verifier = Verifier::from_password(verifier.as_bytes());
            let expect = if right { Ok(()) } else { Err(ScramError::WrongPassword) };
            assert_eq!(exchange_with_client(verifier, password.as_bytes()), expect, "{password}");
        };
        check("bot", "bot", true);
        check("bot", "bo", false);
        check("", "", true);
        check("pass word", "pass\u{a0}word", true);
        check("\u{2168}", "IX", true);
        check("a\x07b", "a\x07b", true);
        let nobody = Verifier::mock(b"secret", "nobody");
        assert_eq!(exchange_with_client(nobody, b""), Err(ScramError::WrongPassword));
    }

    #[test]
    fn unknown_users_look_like_known_ones() {
        let challenge = |user: &str| {
            let exchange =
                ServerExchange::with_nonce(Verifier::mock(b"secret", user), "N".to_owned());
            exchange.first(RFC_FIRST).unwrap().1
        };
        assert_eq!(challenge("a"), challenge("a"));
        assert_ne!(challenge("a"), challenge("b"));
        let real = ServerExchange::with_nonce(Verifier::from_password(b"x"), "N".to_owned());
        assert_eq!(challenge("a").len(), real.first(RFC_FIRST).unwrap().1.len());
    }

    #[test]
    fn verifiers_are_read() {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let verifier = Verifier::parse(text).unwrap();
        assert_eq!(verifier.stored_key, rfc_verifier().stored_key);
        assert_eq!(verifier.server_key, rfc_verifier().server_key);
        let check = |text: &str| assert!(Verifier::parse(text).is_none(), "{text}");
        check("");
        check("md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        check("SCRAM-SHA-256$0:W22Z$WG5d:wfPL");
        check("SCRAM-SHA-256$4096:W22Z$WG5d:wfPL");
        check(&text.replace("W22Z", "****"));
    }

    fn check_first(message: &[u8], expect: &str) {
        let exchange = ServerExchange::new(rfc_verifier());
        let error = exchange.first(message).unwrap_err().sql_error("u");
        let shown = format!("{}: {}", error.message, error.detail.unwrap_or_default());
        assert!(shown.contains(expect), "{shown} / {expect}");
    }

    #[test]
    fn faulty_first_messages() {
        check_first(b"", "The message is empty.");
        check_first(b"n,,n=,r=\0", "Message length does not match");
        check_first(b"p=tls-server-end-point,,n=,r=x", "without channel binding");
        check_first(b"x,,n=,r=x", "Unexpected channel-binding flag \"x\"");
        check_first(b"n", "Comma expected");
        check_first(b"n,a=other,n=,r=x", "authorization identity");
        check_first(b"n,x,n=,r=x", "Unexpected attribute");
        check_first(b"n,,m=x,n=,r=x", "unsupported SCRAM extension");
        check_first(b"n,,r=x,n=", "Expected attribute \"n\" but found \"r\"");
        check_first(b"n,,n=", "end of message");
        check_first(b"n,,n=,r", "invalid characters");
        check_first(b"n,,n=,r=a\x01", "non-printable characters");
        check_first(b"n,,n=,r=", "non-printable characters");
    }

    #[test]
    fn faulty_final_messages() {
        let check = |from: &str, to: &str, expect: &str| {
            let error = rfc_exchange().last(RFC_FINAL.replace(from, to).as_bytes()).unwrap_err();
            let error = error.sql_error("u");
            let shown = format!("{}: {}", error.message, error.detail.unwrap_or_default());
            assert!(shown.contains(expect), "{shown} / {expect}");
        };
        check("c=biws", "c=eSws", "unexpected SCRAM channel-binding attribute");
        check("r=rOpr", "r=xOpr", "Nonce does not match.");
        check("p=dHzb", "p=dHz", "Malformed proof");
        check("p=dHzb", "p=eHzb", "password authentication failed for user \"u\"");
        check("VQ=", "VQ=,x=y", "Garbage found");
        check(",p=", ",x=", "end of message");
        check(",p=", ",x=y,p=", "password authentication failed");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..64), text in "[nyp],?a?=?,[nmr]=[ -~]{0,6},[rpc]=[ -~ü]{0,9}") {
            for message in [&message[..], text.as_bytes()] {
                let _ = ServerExchange::new(Verifier::mock(b"", "")).first(message);
                let _ = rfc_exchange().last(message);
            }
        }
    }
}
