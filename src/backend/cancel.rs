//! Cancel requests: a connection of their own, encrypted as the target asks for, one packet, no answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::BackendError;
use super::stream::{Encryption, Stream};
use super::target::Target;
use crate::wire::startup::cancel_into;

/// What it takes to cancel what runs on a connection.
#[derive(Clone)]
pub struct CancelKey {
    pub(super) target: Arc<Target>,
    pub(super) pid: i32,
    pub(super) secret: Vec<u8>,
}

impl CancelKey {
    /// See [`cancel`].
    ///
    /// # Errors
    ///
    /// The shard can't be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the request may or may not have been made.
    pub async fn cancel(&self, timeout: Duration) -> Result<(), BackendError> {
        cancel(&self.target, self.pid, &self.secret, timeout).await
    }
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CancelKey({} at {})", self.pid, self.target)
    }
}

/// Asks the server to cancel what runs on the connection of that process, and waits until it has taken
/// the request (it closes the connection then). Whether something was cancelled is not known.
///
/// # Errors
///
/// The server can't be reached within `timeout`.
///
/// # Cancel safety
///
/// Dropped, the request may or may not have been made.
pub async fn cancel(
    target: &Target,
    pid: i32,
    secret: &[u8],
    timeout: Duration,
) -> Result<(), BackendError> {
    let request = async {
        let mut stream = Stream::connect(target, Encryption::of_cancel(target)).await?;
        let mut packet = Vec::new();
        cancel_into(&mut packet, pid, secret);
        stream.write_all(&packet).await.map_err(BackendError::Connect)?;
        // Either the end or an error: both mean that the server is done with it.
        let _ = stream.read_u8().await;
        Ok(())
    };
    match tokio::time::timeout(timeout, request).await {
        Ok(outcome) => outcome,
        Err(_) => Err(BackendError::ConnectTimeout(timeout)),
    }
}
