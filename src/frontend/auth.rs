//! How a client proves who it is (PostgreSQL `libpq/auth.c`, `auth-scram.c`, `crypt.c`, for its words too).
//!
//! Whether a user exists can't be told from outside: an unknown one is asked for a password in the way that
//! most users are, and none is right.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::Gate;
use super::door::{Door, Refused};
use crate::config::{AuthMethod, Password, Secret};
use crate::error::{SqlError, SqlState};
use crate::exec::{Account, Worker};
use crate::wire::certificate::Certificate;
use crate::wire::frontend::SaslInitialView;
use crate::wire::scram::{
    Binding, MECHANISM, MECHANISM_PLUS, ScramError, ServerExchange, Verifier,
};
use crate::wire::startup::Startup;
use crate::wire::{self, ProtocolError};

/// Lets the client prove that it is the user of its start-up packet; `AuthenticationOk` is then to be sent.
pub(super) async fn authenticate(
    worker: &Worker,
    gate: &Gate,
    door: &mut Door,
    startup: &Startup,
    peer: SocketAddr,
) -> Result<(), Refused> {
    let method = worker.shared.config.auth.method;
    let must_encrypt = gate.tls.as_ref().is_some_and(|tls| tls.is_required());
    if !door.is_encrypted() && (must_encrypt || method == AuthMethod::Cert) {
        return Err(not_encrypted(startup, peer).into());
    }
    match method {
        AuthMethod::Trust if peer.ip().is_loopback() => known(worker, startup.user())?,
        AuthMethod::Trust => {
            return Err(SqlError::new(
                SqlState::INVALID_AUTHORIZATION,
                "trust authentication is for the loopback interface only",
            )
            .into());
        }
        AuthMethod::Cert => {
            certificate(door, startup.user())?;
            known(worker, startup.user())?;
        }
        AuthMethod::Scram | AuthMethod::Md5 => {
            let user = startup.user();
            // Held until the answer is given: guessers take turns.
            let _turn = gate.throttle.turn(Instant::now(), peer.ip(), user).await;
            let outcome = password(worker, gate, door, user, method).await;
            if let Err(Refused::Told(error)) = &outcome
                && error.code == SqlState::INVALID_PASSWORD
            {
                let pause = gate.throttle.failed(Instant::now(), peer.ip(), user);
                tokio::time::sleep(pause).await;
            }
            outcome?;
        }
    }
    wire::backend::authentication_ok(&mut door.out);
    Ok(())
}

/// What PostgreSQL says where every entry of `pg_hba.conf` is a `hostssl` one.
fn not_encrypted(startup: &Startup, peer: SocketAddr) -> SqlError {
    SqlError::new(
        SqlState::INVALID_AUTHORIZATION,
        format!(
            "no pg_hba.conf entry for host \"{}\", user \"{}\", database \"{}\", no encryption",
            peer.ip(),
            startup.user(),
            startup.database()
        ),
    )
    .hint("Connections must be encrypted here: use sslmode=require or a stronger one.")
}

fn known(worker: &Worker, user: &str) -> Result<(), SqlError> {
    if worker.shared.accounts.contains_key(user) {
        return Ok(());
    }
    Err(SqlError::new(SqlState::INVALID_AUTHORIZATION, format!("role \"{user}\" does not exist")))
}

/// The certificate's common name is the user's (`clientcert=verify-full` without a map of names). That it
/// is signed by the right authority was found when the connection was encrypted.
fn certificate(door: &Door, user: &str) -> Result<(), SqlError> {
    let Some(der) = door.client_certificate() else {
        return Err(SqlError::new(
            SqlState::INVALID_AUTHORIZATION,
            "connection requires a valid client certificate",
        ));
    };
    let certificate = Certificate::parse(der);
    if certificate.as_ref().and_then(Certificate::common_name) == Some(user) {
        return Ok(());
    }
    Err(SqlError::new(
        SqlState::INVALID_AUTHORIZATION,
        format!("certificate authentication failed for user \"{user}\""),
    ))
}

/// md5 for who can (`CheckPWChallengeAuth`), SCRAM for all others.
async fn password(
    worker: &Worker,
    gate: &Gate,
    door: &mut Door,
    user: &str,
    method: AuthMethod,
) -> Result<(), Refused> {
    let account = worker.shared.accounts.get(user);
    if method == AuthMethod::Md5 {
        match account.map(|account| account.md5.as_ref()) {
            Some(Some(hash)) => return md5(door, user, Some(hash)).await,
            None if gate.strangers_by_md5 => return md5(door, user, None).await,
            Some(None) | None => {}
        }
    }
    scram(worker, door, user, account).await
}

fn wrong(user: &str) -> SqlError {
    ScramError::WrongPassword.sql_error(user)
}

/// `md5(md5(password + user) + salt)`; without a hash no answer is right.
async fn md5(door: &mut Door, user: &str, hash: Option<&Secret>) -> Result<(), Refused> {
    let salt: [u8; 4] = rand::random();
    wire::backend::authentication_md5(&mut door.out, salt);
    let body = door.password_message("password").await?;
    let Some((0, answer)) = body.split_last() else {
        return Err(ProtocolError::violation("invalid password packet size").into());
    };
    if answer.contains(&0) {
        return Err(ProtocolError::violation("invalid password packet size").into());
    }
    if answer.is_empty() {
        return Err(
            SqlError::new(SqlState::INVALID_PASSWORD, "empty password returned by client").into()
        );
    }
    let stored = hash.map_or("", Secret::expose);
    let digits = stored.strip_prefix("md5").unwrap_or_default();
    let mut expected = "md5".to_owned();
    for byte in Md5::digest([digits.as_bytes(), &salt].concat()) {
        let _ = write!(expected, "{byte:02x}");
    }
    let right = bool::from(expected.as_bytes().ct_eq(answer));
    if right && hash.is_some() { Ok(()) } else { Err(wrong(user).into()) }
}

async fn scram(
    worker: &Worker,
    door: &mut Door,
    user: &str,
    account: Option<&Account>,
) -> Result<(), Refused> {
    let verifier = account
        .and_then(|account| account.verifier.clone())
        .unwrap_or_else(|| Verifier::mock(&worker.shared.mock_secret, user));
    let hash = door.end_point_hash().map(<[u8]>::to_vec);
    let mechanisms: &[&str] =
        if hash.is_some() { &[MECHANISM_PLUS, MECHANISM] } else { &[MECHANISM] };
    wire::backend::authentication_sasl(&mut door.out, mechanisms);
    let body = door.password_message("SASL").await?;
    let view = SaslInitialView::parse(&body)?;
    let binding = match (hash, view.mechanism) {
        (Some(hash), chosen) if chosen == MECHANISM_PLUS.as_bytes() => Binding::EndPoint(hash),
        (Some(_), chosen) if chosen == MECHANISM.as_bytes() => Binding::Declined,
        (None, chosen) if chosen == MECHANISM.as_bytes() => Binding::Unsupported,
        _ => {
            let message = "client selected an invalid SASL authentication mechanism";
            return Err(ProtocolError::violation(message).into());
        }
    };
    let exchange = ServerExchange::new(verifier, binding);
    let (awaiting, challenge) =
        exchange.first(view.message.unwrap_or_default()).map_err(|error| error.sql_error(user))?;
    wire::backend::authentication_sasl_continue(&mut door.out, challenge.as_bytes());
    let body = door.password_message("SASL").await?;
    let done = awaiting.last(&body).map_err(|error| error.sql_error(user))?;
    wire::backend::authentication_sasl_final(&mut door.out, done.server_final.as_bytes());
    // Where only a verifier is known, the client's key is what logs in on the shards.
    if let Some(account) = account
        && let Some(Password::Verifier(verifier)) = &account.user.password
    {
        account.keys.get_or_init(|| verifier.client_keys(done.client_key));
    }
    Ok(())
}
