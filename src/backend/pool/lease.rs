//! A connection in a client's hands: [`Lease`], and [`Idle`], the proof that it is clean.
//!
//! A lease that is dropped closes its connection; only [`Lease::into_idle`] and [`Idle::release`] give one back.

use std::fmt;
use std::ops::{Deref, DerefMut};

use deadpool::managed::Object;

use super::manager::Manager;
use crate::backend::clock;
use crate::backend::connection::Connection;
use crate::observe::{METRICS, add};

/// A connection for as long as a client needs it. Dropped, it is closed.
pub struct Lease {
    /// `None` only while it is taken apart.
    object: Option<Object<Manager>>,
}

impl Lease {
    #[inline]
    pub(super) fn new(object: Object<Manager>) -> Self {
        if let Some(entry) = object.connection.entry() {
            entry.leased();
        }
        Self { object: Some(object) }
    }

    /// Proves that the connection is clean.
    ///
    /// # Errors
    ///
    /// The lease itself, if it is not.
    pub fn into_idle(self) -> Result<Idle, Self> {
        if self.is_idle() { Ok(Idle(self)) } else { Err(self) }
    }

    /// Gives the connection back if it is provably clean, and closes it if not. Returns whether it was.
    pub fn release(self) -> bool {
        match self.into_idle() {
            Ok(idle) => {
                idle.release();
                true
            }
            Err(dirty) => {
                add(&METRICS.backend_dirty, 1);
                drop(dirty);
                false
            }
        }
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &self.object {
            Some(object) => &object.connection,
            None => unreachable!("a lease is only empty while it is dropped"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        match &mut self.object {
            Some(object) => &mut object.connection,
            None => unreachable!("a lease is only empty while it is dropped"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({:?})", self.object.as_ref().map(|object| &object.connection))
    }
}

/// A lease whose connection is clean: nothing runs, nothing is unread, no transaction, no left-overs.
#[derive(Debug)]
pub struct Idle(Lease);

impl Idle {
    /// Gives the connection back to its pool.
    pub fn release(mut self) {
        let Some(mut object) = self.0.object.take() else { return };
        let now = clock::recent();
        object.connection.touch(now);
        if !object.connection.entry().is_none_or(|entry| entry.released(now)) {
            drop(Object::take(object));
            return;
        }
        match object.hot.clone() {
            Some(hot) => hot.put(object),
            None => drop(object),
        }
    }

    /// Goes on using it.
    pub fn into_lease(self) -> Lease {
        self.0
    }
}
