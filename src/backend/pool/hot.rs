//! Free connections that the next client can have at once: released, and not given back to deadpool, for
//! which they are still in use. What deadpool is there for (a place in the queue, the making of a
//! connection, the bounds) is not needed on a statement's way, and costs it a tenth of its instructions.
//!
//! A connection goes back to deadpool when somebody waits in its queue, which nobody does while one is
//! free here.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool::managed::Object;

use super::{Connection, Manager};

/// The free connections of one pool, the last one released on top.
#[derive(Default)]
pub(super) struct Hot {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    free: Vec<Object<Manager>>,
    /// Clients in deadpool's queue, or on their way to it.
    waiting: usize,
    closed: bool,
}

impl Hot {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last.
    pub(super) fn take(&self) -> Option<Object<Manager>> {
        self.lock().free.pop()
    }

    /// Keeps a connection, or lets who waits have it.
    pub(super) fn put(&self, object: Object<Manager>) {
        let mut inner = self.lock();
        if inner.waiting == 0 && !inner.closed {
            inner.free.push(object);
            return;
        }
        // Deadpool has locks of its own.
        drop(inner);
        drop(object);
    }

    /// From now on, and until what is returned is dropped, connections go to the queue. One that is free by now is
    /// to be taken first.
    pub(super) fn begin_waiting(&self) -> Waiting<'_> {
        self.lock().waiting += 1;
        Waiting(self)
    }

    /// Takes out, and closes, what is not to be kept.
    pub(super) fn retain(&self, mut keep: impl FnMut(&Connection) -> bool) {
        let removed: Vec<_> =
            self.lock().free.extract_if(.., |object| !keep(&object.connection)).collect();
        for object in removed {
            drop(Object::take(object));
        }
    }

    /// Closes everything, and from now on whatever is put here.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.retain(|_| false);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().free.len()
    }
}

impl fmt::Debug for Hot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hot({})", self.len())
    }
}

/// A client that waits, for as long as it does.
pub(super) struct Waiting<'a>(&'a Hot);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
