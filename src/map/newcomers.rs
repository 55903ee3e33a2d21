//! `place_new`: which shard a key gets that is nowhere yet. It is recorded in the control tables, once and for
//! all, so nothing here need give the same answer twice.

use std::net::IpAddr;

use super::directory::Directory;
use super::geoip::alpha3;
use super::model::{NewKeyPlaces, PlaceNew, Strategy};
use super::{KeyId, ShardId, ShardMap};
use crate::datum::KeyValue;

/// What is known of a new key's region, the surest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegionHints<'a> {
    /// The row's own column.
    pub row: Option<&'a str>,
    /// The session's.
    pub session: Option<&'a str>,
    /// The client's address.
    pub address: Option<IpAddr>,
}

impl ShardMap {
    /// Whether keys of some kind get a home at their first INSERT.
    pub fn takes_newcomers(&self) -> bool {
        self.keys.iter().any(|key| key.place_new != PlaceNew::Refuse)
    }

    /// Whether a key that has no home would get one.
    pub fn takes_new(&self, key: KeyId, value: &KeyValue<'_>) -> bool {
        let placed = self.place(key, value).is_ok();
        self.key(key).is_some_and(|key| key.place_new != PlaceNew::Refuse) && !placed
    }

    /// The shard for a key that has none. Shards that are not active get no new keys.
    pub fn new_home(
        &self,
        key: KeyId,
        value: &KeyValue<'_>,
        hints: &RegionHints<'_>,
    ) -> Option<ShardId> {
        let own = self.key(key)?;
        let Strategy::Directory(directory) = &own.strategy else { return None };
        let active = |shard: &ShardId| self.shard(*shard).is_some_and(|shard| shard.active);
        match own.place_new {
            PlaceNew::Refuse => None,
            PlaceNew::Hash => {
                let home = own.new_key_hash.as_ref()?.place(value).ok()?;
                if active(&home) {
                    return Some(home);
                }
                self.emptiest(directory, self.all_shards().iter().filter(active))
            }
            PlaceNew::LeastKeys => {
                self.emptiest(directory, self.all_shards().iter().filter(active))
            }
            PlaceNew::Geo => {
                let places = own.new_key_places.as_ref()?;
                let shards = places.regions.get(places.region(hints)?)?;
                self.emptiest(directory, shards.iter().copied().filter(active))
            }
        }
    }

    /// The shard that fewest keys are recorded on; of several the first.
    fn emptiest(
        &self,
        directory: &Directory,
        among: impl Iterator<Item = ShardId>,
    ) -> Option<ShardId> {
        let keys = |shard: &ShardId| {
            let id = self.shard(*shard).map(|shard| shard.id);
            let count = directory.entries.homes().find(|(home, _)| Some(*home) == id);
            count.map_or(0, |(_, count)| count)
        };
        among.min_by_key(|shard| (keys(shard), shard.0))
    }
}

impl NewKeyPlaces {
    /// The region that the hints lead to.
    fn region(&self, hints: &RegionHints<'_>) -> Option<&str> {
        let listed =
            |name: &str| self.regions.get_key_value(name.trim_end()).map(|(name, _)| name.as_str());
        let named = hints.row.and_then(listed).or_else(|| hints.session.and_then(listed));
        let near = || hints.address.and_then(|address| self.network(address));
        let abroad = || hints.address.and_then(|address| self.country(address));
        named.or_else(near).or_else(abroad).or(self.default.as_deref())
    }

    /// The region that is the country of an address, by either of its codes.
    fn country(&self, address: IpAddr) -> Option<&str> {
        let code = self.geoip.as_ref()?.country(address.to_canonical())?;
        let listed = |code: &str| self.regions.get_key_value(code).map(|(name, _)| name.as_str());
        alpha3(&code).and_then(listed).or_else(|| listed(&code))
    }

    /// The region of the smallest network that an address is in.
    fn network(&self, address: IpAddr) -> Option<&str> {
        let around = self.networks.iter().filter_map(|(network, region)| {
            let (base, bits) = network.split_once('/')?;
            let (base, bits): (IpAddr, u32) = (base.parse().ok()?, bits.parse().ok()?);
            is_within(address, base, bits).then_some((bits, region.as_str()))
        });
        around.max_by_key(|(bits, _)| *bits).map(|(_, region)| region)
    }
}

fn is_within(address: IpAddr, base: IpAddr, bits: u32) -> bool {
    use IpAddr::{V4, V6};
    match (address.to_canonical(), base) {
        (V4(a), V4(b)) if bits <= 32 => {
            (u64::from(a.to_bits()) ^ u64::from(b.to_bits())) >> (32 - bits) == 0
        }
        (V6(a), V6(b)) if bits <= 128 => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses() {
        for (address, base, bits, expect) in [
            ("10.1.2.3", "10.1.0.0", 16, true),
            ("10.2.2.3", "10.1.0.0", 16, false),
            ("10.1.2.3", "0.0.0.0", 0, true),
            ("10.1.2.3", "10.1.2.3", 32, true),
            ("10.1.2.2", "10.1.2.3", 32, false),
            ("::ffff:10.1.2.3", "10.1.0.0", 16, true),
            ("2001:db8::1", "2001:db8::", 32, true),
            ("2001:db9::1", "2001:db8::", 32, false),
            ("::1", "::", 0, true),
            ("::1", "0.0.0.0", 0, false),
        ] {
            let found = is_within(address.parse().unwrap(), base.parse().unwrap(), bits);
            assert_eq!(found, expect, "{address} in {base}/{bits}");
        }
    }
}
