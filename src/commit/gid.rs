//! The name of a transaction that is to be committed on several shards: [`Gid`].

use std::fmt;

use sha2::{Digest as _, Sha256};

/// What every gid of ours begins with.
pub const PREFIX: &str = "pgmeridian:";

/// The name of a transaction: the coordinator's number in the map, the *mark* of the decisions' table there (another
/// server under that number has another one, and decides nothing), and 128 random bits. On a participant its own
/// number is added: shards may be databases of one server, where a gid is unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gid {
    /// The coordinator's number in the map.
    pub coordinator: i16,
    /// The mark of its table.
    pub mark: String,
    digest: u128,
}

impl Gid {
    /// A new one. The secret is random, and of 128 bits or more.
    pub fn new(coordinator: i16, mark: &str, secret: &str) -> Self {
        Self { coordinator, mark: mark.to_owned(), digest: digest(secret) }
    }

    /// Whether this is its secret.
    pub fn is_of(&self, secret: &str) -> bool {
        self.digest == digest(secret)
    }

    /// What it is called on a participant.
    pub fn on(&self, participant: i16) -> String {
        format!("{self}:{participant}")
    }

    /// Reads what something is called that is prepared; `None` if it is none of ours.
    pub fn of_prepared(text: &str) -> Option<Self> {
        let (gid, participant) = text.rsplit_once(':')?;
        participant.parse::<i16>().ok()?;
        Self::read(gid)
    }

    /// Reads the name that its decision has.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.split(':');
        let coordinator = parts.next()?.parse().ok()?;
        let mark = parts.next().filter(|mark| is_mark(mark))?.to_owned();
        let digest = parts.next().filter(|digits| digits.len() == 32)?;
        let digest = u128::from_str_radix(digest, 16).ok()?;
        parts.next().is_none().then_some(Self { coordinator, mark, digest })
    }
}

/// What a name shows of its secret.
pub(super) fn digest(secret: &str) -> u128 {
    Sha256::digest(secret).iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

/// Whether a text can be a table's mark.
pub(super) fn is_mark(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:{}:{:032x}", self.coordinator, self.mark, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let gid = Gid::new(-7, "0123456789abcdef", "f00d");
        assert!(gid.is_of("f00d") && !gid.is_of("f00e"));
        assert_eq!(Gid::read(&gid.to_string()), Some(gid.clone()));
        assert_eq!(Gid::of_prepared(&gid.on(32767)), Some(gid.clone()));
        assert!(gid.on(-32768).len() <= 200);
        for other in [
            "",
            "x",
            "pgmeridian:",
            "pgmeridian:1:0123456789abcdef:f00d:2",
            "pgmeridian:1:0123456789abcdeg:0000000000000000000000000000f00d:2",
            "pgmeridian:1:0123456789abcdef:0000000000000000000000000000f00d",
            "pgmeridian:1:0123456789abcdef:0000000000000000000000000000f00d:2:3",
            "pgmeridian:70000:0123456789abcdef:0000000000000000000000000000f00d:2",
            "pgmeridian:1:0123456789abcdef:+000000000000000000000000000f00d:x",
        ] {
            assert_eq!(Gid::of_prepared(other), None, "{other}");
        }
    }
}
