//! A string that is never shown.

use std::fmt;

use subtle::ConstantTimeEq;

/// A password or a token. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, Default, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps it.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// In a time that does not tell where the difference is.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(…)" })
    }
}
