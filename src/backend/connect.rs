//! Dials a shard and logs in: protocol 3.0, over TLS as `sslmode` says; trust, certificates, cleartext, md5
//! and SCRAM-SHA-256, bound to the shard's certificate where it can be.

use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;

use super::connection::Connection;
use super::error::BackendError;
use super::stream::{Encryption, Stream};
use super::target::{ChannelBinding, Target};
use crate::wire::backend::tag;
use crate::wire::frame::AUTH_BYTES_MAX;
use crate::wire::response::{self, Authentication, ServerError};
use crate::wire::scram::client::{ClientBinding, ClientError, ClientExchange, Credentials};
use crate::wire::{ProtocolError, frontend, scram, startup};

/// Connects and logs in, within `timeout` altogether. `options` are further parameters of the startup
/// packet; they win over the target's own.
///
/// # Errors
///
/// Everything of [`BackendError`] that can happen before a statement.
///
/// # Cancel safety
///
/// Dropped, it leaves nothing behind.
pub async fn connect(
    target: &Arc<Target>,
    options: &[(String, String)],
    timeout: Duration,
) -> Result<Connection, BackendError> {
    match tokio::time::timeout(timeout, dial(target, options)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(BackendError::ConnectTimeout(timeout)),
    }
}

async fn dial(
    target: &Arc<Target>,
    options: &[(String, String)],
) -> Result<Connection, BackendError> {
    let mut first = None;
    for encryption in Encryption::attempts(target) {
        match dial_once(target, *encryption, options).await {
            Err(error) if first.is_none() && was_turned_down(&error) => first = Some(error),
            Err(error) => return Err(first.filter(|_| !says_more(&error)).unwrap_or(error)),
            made => return made,
        }
    }
    Err(first.unwrap_or_else(BackendError::eof))
}

/// It may be otherwise with TLS, or without: the server has no entry for such a connection (which is all
/// that it says 28000 for before it has looked at the user), or TLS does not come about.
fn was_turned_down(error: &BackendError) -> bool {
    match error {
        BackendError::Refused(error) => error.code() == "28000",
        BackendError::Tls(_) => true,
        _ => false,
    }
}

/// The second attempt came further than the first one.
fn says_more(second: &BackendError) -> bool {
    match second {
        BackendError::Refused(error) => error.code() != "28000",
        BackendError::Tls(_) | BackendError::Connect(_) => false,
        _ => true,
    }
}

async fn dial_once(
    target: &Arc<Target>,
    encryption: Encryption,
    options: &[(String, String)],
) -> Result<Connection, BackendError> {
    let stream = Stream::connect(target, encryption).await?;
    let mut connection = Connection::new(stream, Arc::clone(target));
    match log_in(&mut connection, options).await {
        Ok(()) => Ok(connection),
        // Until it is logged in, a connection that ends is one that could not be made.
        Err(BackendError::Lost(error)) => Err(BackendError::Connect(error)),
        Err(error) => Err(error),
    }
}

async fn log_in(
    connection: &mut Connection,
    options: &[(String, String)],
) -> Result<(), BackendError> {
    let mut out = Vec::new();
    let target = connection.target();
    let who = [("user", target.user.as_str()), ("database", target.database.as_str())];
    let options = target.options.iter().chain(options);
    let options = options.map(|(name, value)| (name.as_str(), value.as_str()));
    startup::startup_into(&mut out, who.into_iter().chain(options));
    connection.expect_ready(1);
    connection.send_all(&out).await?;
    authenticate(connection).await?;
    loop {
        let (tag, body) = next(connection).await?;
        match tag {
            tag::PARAMETER_STATUS => connection.take_parameter_status(&body)?,
            tag::BACKEND_KEY_DATA => {
                let (pid, secret) = response::backend_key_data(&body)?;
                connection.set_cancel_key(pid, secret);
            }
            tag::READY_FOR_QUERY => {
                connection.ready(response::ready_for_query(&body)?);
                return Ok(());
            }
            tag => return Err(unexpected(tag)),
        }
    }
}

/// The next message that is of interest; an error is the end.
async fn next(connection: &mut Connection) -> Result<(u8, bytes::BytesMut), BackendError> {
    loop {
        let (tag, body) = connection.next_frame(AUTH_BYTES_MAX).await?;
        match tag {
            tag::ERROR => return Err(BackendError::Refused(ServerError::parse(&body)?)),
            tag::NOTICE | tag::NEGOTIATE_PROTOCOL_VERSION => {}
            _ => return Ok((tag, body)),
        }
    }
}

fn unexpected(tag: u8) -> BackendError {
    let tag = tag.escape_ascii();
    ProtocolError::violation(format!("unexpected message \"{tag}\" while logging in")).into()
}

async fn authenticate(connection: &mut Connection) -> Result<(), BackendError> {
    let (tag, body) = next(connection).await?;
    if tag != tag::AUTHENTICATION {
        return Err(unexpected(tag));
    }
    let mut out = Vec::new();
    let request = response::authentication(&body)?;
    check_method(connection, &request)?;
    match request {
        Authentication::Ok => return Ok(()),
        Authentication::Cleartext => {
            frontend::password_into(&mut out, password(connection)?);
        }
        Authentication::Md5(salt) => {
            let user = connection.target().user.as_bytes();
            frontend::password_into(
                &mut out,
                md5_hash(user, password(connection)?, salt).as_bytes(),
            );
        }
        Authentication::Sasl(mechanisms) => {
            let has = |wanted: &str| mechanisms.contains(&wanted.as_bytes());
            let offer = Offer { plus: has(scram::MECHANISM_PLUS), plain: has(scram::MECHANISM) };
            if !offer.plus && !offer.plain {
                let offered: Vec<_> =
                    mechanisms.iter().map(|name| String::from_utf8_lossy(name)).collect();
                return Err(BackendError::Authentication(format!(
                    "it offers no SASL mechanism but {}, and only {} is supported",
                    offered.join(", "),
                    scram::MECHANISM
                )));
            }
            sasl(connection, offer).await?;
        }
        Authentication::Other(code) => {
            return Err(BackendError::Authentication(format!(
                "it asks for authentication method {code} ({}), which is not supported",
                method(code)
            )));
        }
        Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
            return Err(unexpected(tag));
        }
    }
    if !out.is_empty() {
        connection.send_all(&out).await?;
    }
    match next_authentication(connection).await?.1 {
        Step::Ok => Ok(()),
        Step::Continue | Step::Final => Err(unexpected(tag::AUTHENTICATION)),
    }
}

/// What the URL demands of the way to log in: `require_auth`, and `channel_binding=require`, which only
/// SCRAM can fulfil.
fn check_method(connection: &Connection, request: &Authentication) -> Result<(), BackendError> {
    let target = connection.target();
    let name = match request {
        Authentication::Ok => "none",
        Authentication::Cleartext => "password",
        Authentication::Md5(_) => "md5",
        Authentication::Sasl(_) => "scram-sha-256",
        Authentication::Other(7) => "gss",
        Authentication::Other(9) => "sspi",
        _ => "other",
    };
    if let Some(wanted) = &target.require_auth {
        let mut words = wanted.split(',').map(str::trim);
        let accepted = if wanted.trim_start().starts_with('!') {
            words.all(|word| word.strip_prefix('!') != Some(name))
        } else {
            words.any(|word| word == name)
        };
        if !accepted {
            return Err(BackendError::Authentication(format!(
                "authentication method requirement \"{wanted}\" failed: it asks for {name}"
            )));
        }
    }
    let is_sasl = matches!(request, Authentication::Sasl(_));
    if target.tls.channel_binding == ChannelBinding::Require && !is_sasl {
        return Err(BackendError::Authentication(format!(
            "channel binding required, but not supported by its authentication request ({name})"
        )));
    }
    Ok(())
}

/// The SCRAM mechanisms that a shard offers.
#[derive(Clone, Copy)]
struct Offer {
    plus: bool,
    plain: bool,
}

fn password(connection: &Connection) -> Result<&[u8], BackendError> {
    let target = connection.target();
    if target.password.is_empty() {
        return Err(BackendError::Authentication(format!(
            "it asks for a password, and none is known for user \"{}\"",
            target.user
        )));
    }
    Ok(target.password.expose().as_bytes())
}

/// The names of `AuthenticationRequest` codes (`protocol.h`).
fn method(code: i32) -> &'static str {
    match code {
        2 => "Kerberos V5",
        6 => "SCM credentials",
        7 => "GSSAPI",
        9 => "SSPI",
        _ => "unknown",
    }
}

enum Step {
    Ok,
    Continue,
    Final,
}

/// What the server says next in an exchange.
async fn next_authentication(connection: &mut Connection) -> Result<(Vec<u8>, Step), BackendError> {
    let (tag, body) = next(connection).await?;
    if tag != tag::AUTHENTICATION {
        return Err(unexpected(tag));
    }
    match response::authentication(&body)? {
        Authentication::Ok => Ok((Vec::new(), Step::Ok)),
        Authentication::SaslContinue(data) => Ok((data.to_vec(), Step::Continue)),
        Authentication::SaslFinal(data) => Ok((data.to_vec(), Step::Final)),
        _ => Err(unexpected(tag)),
    }
}

/// SCRAM. The server must prove that it knows the password too.
async fn sasl(connection: &mut Connection, offer: Offer) -> Result<(), BackendError> {
    let hash = connection.stream().end_point_hash();
    let (mechanism, binding) = choose(connection, offer, hash.as_deref())?;
    let user = connection.target().user.clone();
    let unproven = |error: ClientError| {
        BackendError::Authentication(match error {
            ClientError::OtherKeys => format!(
                "only a SCRAM verifier is known of user \"{user}\", and the shard's has another salt \
                 or iteration count; give the role the same verifier on every shard (ALTER ROLE … \
                 PASSWORD 'SCRAM-SHA-256$…'), or set shard_password"
            ),
            error => format!("{mechanism} authentication failed: {error}"),
        })
    };
    let exchange = ClientExchange::new(credentials(connection)?, binding);
    let mut out = Vec::new();
    frontend::sasl_initial_into(&mut out, mechanism, exchange.first().as_bytes());
    connection.send_all(&out).await?;
    let (challenge, Step::Continue) = next_authentication(connection).await? else {
        return Err(unexpected(tag::AUTHENTICATION));
    };
    let (awaiting, proof) = exchange.challenged(&challenge).map_err(&unproven)?;
    out.clear();
    frontend::sasl_response_into(&mut out, proof.as_bytes());
    connection.send_all(&out).await?;
    let (proof, Step::Final) = next_authentication(connection).await? else {
        return Err(unexpected(tag::AUTHENTICATION));
    };
    let keys = awaiting.finish(&proof).map_err(&unproven)?;
    connection.target().accepted.note(keys);
    Ok(())
}

/// The mechanism, and what is said about channel binding (`pg_SASL_init` in `fe-auth.c`).
fn choose<'h>(
    connection: &Connection,
    offer: Offer,
    hash: Option<&'h [u8]>,
) -> Result<(&'static str, ClientBinding<'h>), BackendError> {
    let wanted = connection.target().tls.channel_binding;
    if offer.plus && !connection.is_encrypted() {
        return Err(BackendError::Authentication(format!(
            "it offers {} over a connection without TLS",
            scram::MECHANISM_PLUS
        )));
    }
    match hash {
        Some(hash) if offer.plus && wanted != ChannelBinding::Disable => {
            Ok((scram::MECHANISM_PLUS, ClientBinding::EndPoint(hash)))
        }
        _ if wanted == ChannelBinding::Require => Err(BackendError::Authentication(
            "channel binding is required, but it offers no authentication method that supports it"
                .to_owned(),
        )),
        _ if !offer.plain => Err(BackendError::Authentication(format!(
            "it offers {} only, and its certificate can't be bound to",
            scram::MECHANISM_PLUS
        ))),
        Some(_) if wanted != ChannelBinding::Disable => {
            Ok((scram::MECHANISM, ClientBinding::NotOffered))
        }
        _ => Ok((scram::MECHANISM, ClientBinding::Unsupported)),
    }
}

fn credentials(connection: &Connection) -> Result<Credentials, BackendError> {
    let target = connection.target();
    match &target.keys {
        Some(keys) if target.password.is_empty() => Ok(Credentials::Keys(keys.clone())),
        _ => password(connection)
            .map(|password| Credentials::Password(password.to_vec(), target.accepted.keys())),
    }
}
