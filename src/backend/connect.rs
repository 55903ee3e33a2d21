//! Dials a shard and logs in: protocol 3.0; trust, cleartext, md5 and SCRAM-SHA-256.

use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::connection::Connection;
use super::error::BackendError;
use super::stream::Stream;
use super::target::Target;
use crate::wire::backend::tag;
use crate::wire::frame::AUTH_BYTES_MAX;
use crate::wire::response::{self, Authentication, ServerError};
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
    if !target.ssl_mode.allows_plaintext() {
        return Err(BackendError::Tls(target.ssl_mode.word()));
    }
    match tokio::time::timeout(timeout, dial(target, options)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(BackendError::ConnectTimeout(timeout)),
    }
}

async fn dial(
    target: &Arc<Target>,
    options: &[(String, String)],
) -> Result<Connection, BackendError> {
    let stream = Stream::connect(target).await.map_err(BackendError::Connect)?;
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
    match response::authentication(&body)? {
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
            if !mechanisms.contains(&scram::MECHANISM.as_bytes()) {
                let offered: Vec<_> =
                    mechanisms.iter().map(|name| String::from_utf8_lossy(name)).collect();
                return Err(BackendError::Authentication(format!(
                    "it offers no SASL mechanism but {}, and only {} is supported",
                    offered.join(", "),
                    scram::MECHANISM
                )));
            }
            sasl(connection).await?;
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

/// SCRAM-SHA-256. The server must prove that it knows the password too.
async fn sasl(connection: &mut Connection) -> Result<(), BackendError> {
    let unproven = |error: std::io::Error| {
        BackendError::Authentication(format!("SCRAM-SHA-256 authentication failed: {error}"))
    };
    let mut client = ScramSha256::new(password(connection)?, ChannelBinding::unsupported());
    let mut out = Vec::new();
    frontend::sasl_initial_into(&mut out, scram::MECHANISM, client.message());
    connection.send_all(&out).await?;
    let (challenge, Step::Continue) = next_authentication(connection).await? else {
        return Err(unexpected(tag::AUTHENTICATION));
    };
    client.update(&challenge).map_err(unproven)?;
    out.clear();
    frontend::sasl_response_into(&mut out, client.message());
    connection.send_all(&out).await?;
    let (proof, Step::Final) = next_authentication(connection).await? else {
        return Err(unexpected(tag::AUTHENTICATION));
    };
    client.finish(&proof).map_err(unproven)
}
