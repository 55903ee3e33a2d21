//! TLS to clients: libpq, and clients that do what libpq would not.
