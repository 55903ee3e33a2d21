//! As whom to log in on the shards, and with which password: [`Login`].

use super::super::target::{Accepted, Target};
use crate::config::{self, Secret};
use crate::wire::scram::client::Keys;

/// As whom to log in on the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password on all shards. Without one, that of a shard's URL is taken where the URL's user is
    /// this one,
    pub password: Option<Secret>,
    /// and this one where it isn't: the password that the user has here, if it is known.
    pub fallback: Option<Secret>,
    /// SCRAM keys that the user has logged in with here, for where no password is known: they do where the
    /// shard has the same verifier.
    pub keys: Option<Keys>,
    /// Another database than that of the shards' URLs.
    pub database: Option<String>,
}

impl Login {
    /// A configured user's login; `database` where it isn't that of the shards' URLs.
    pub fn of(user: &config::User, database: Option<String>) -> Self {
        let fallback = match &user.password {
            Some(config::Password::Plain(password)) => Some(password.clone()),
            Some(config::Password::Verifier(_) | config::Password::Md5(_)) | None => None,
        };
        let password = user.shard_password.clone();
        Self { user: user.name.clone(), password, fallback, keys: None, database }
    }

    /// With the keys that the user has logged in with.
    #[must_use]
    pub fn with_keys(self, keys: Option<Keys>) -> Self {
        Self { keys, ..self }
    }

    pub(super) fn target(&self, shard: &Target) -> Target {
        let password = match (&self.password, &self.fallback) {
            (Some(password), _) => password.clone(),
            (None, _) if shard.user == self.user => shard.password.clone(),
            (None, Some(password)) => password.clone(),
            (None, None) => Secret::default(),
        };
        let database = self.database.clone().unwrap_or_else(|| shard.database.clone());
        let keys = self.keys.clone();
        // Another user's keys are none of this one's.
        let accepted = Accepted::default();
        Target { user: self.user.clone(), password, keys, accepted, database, ..shard.clone() }
    }
}
