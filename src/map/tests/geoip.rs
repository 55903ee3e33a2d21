//! `geoip`: what a file says of an address, and where new keys go by it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::datum::KeyValue;

#[path = "../../../tests/support/mmdb.rs"]
mod mmdb;

/// What stands in the tests' file.
fn file() -> Vec<u8> {
    let networks = [
        (Ipv4Addr::new(81, 0, 0, 0), 8, "DE"),
        (Ipv4Addr::new(80, 64, 0, 0), 10, "FR"),
        (Ipv4Addr::new(66, 0, 0, 0), 8, "US"),
        (Ipv4Addr::new(10, 0, 0, 0), 8, "US"),
    ];
    mmdb::countries("Test-Country", &networks)
}

fn read(_: &str) -> Result<Arc<GeoIp>, String> {
    GeoIp::read(file()).map(Arc::new)
}

const PLACES: &str = r#"
[keys.k]
columns = ["k"]
type = "bigint"
strategy = "directory"
directory = { place_new = "geo" }
[keys.k.place]
regions = { USA = ["usa-east"], DE = ["deu"], MEX = ["usa-west"] }
networks = { "10.1.0.0/16" = "DE" }
geoip = "countries.mmdb"
default = "MEX"
[control]
url = "postgresql://c@127.0.0.1/c"
"#;

fn parsed(
    text: &str,
    geoip: &dyn Fn(&str) -> Result<Arc<GeoIp>, String>,
) -> Result<(ShardMap, Vec<Fault>), Faults> {
    let outside = Outside { env: &no_env, geoip: Some(geoip) };
    ShardMap::parse_in("map.toml", &with_shards(text), outside, None)
}

#[test]
fn new_keys_go_by_the_country_of_the_address() {
    let (map, warnings) = parsed(PLACES, &read).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let home = |row: Option<&str>, session: Option<&str>, address: &str| {
        let hints = RegionHints { row, session, address: Some(address.parse().unwrap()) };
        let home = map.new_home(K, &KeyValue::Int(1), &hints);
        home.map_or("none", |shard| map.shard_name(shard))
    };
    // The country's label may be either code; a country that is no region is the default's.
    assert_eq!(home(None, None, "81.2.3.4"), "deu");
    assert_eq!(home(None, None, "::ffff:81.2.3.4"), "deu");
    assert_eq!(home(None, None, "66.1.2.3"), "usa-east");
    assert_eq!(home(None, None, "80.65.0.1"), "usa-west");
    assert_eq!(home(None, None, "127.0.0.1"), "usa-west");
    assert_eq!(home(None, None, "2001:db8::1"), "usa-west");
    // The row, the session and the map's own networks come first.
    assert_eq!(home(None, None, "10.2.0.1"), "usa-east");
    assert_eq!(home(None, None, "10.1.0.1"), "deu");
    assert_eq!(home(None, Some("USA"), "81.2.3.4"), "usa-east");
    assert_eq!(home(Some("DE"), Some("USA"), "66.1.2.3"), "deu");
    // Without the files the map is the same but for the countries.
    let (map, _) = ShardMap::parse("map.toml", &with_shards(PLACES), &no_env).unwrap();
    let hints =
        RegionHints { address: Some("81.2.3.4".parse().unwrap()), ..RegionHints::default() };
    assert_eq!(map.new_home(K, &KeyValue::Int(1), &hints), Some(ShardId(1)));
}

#[test]
fn faulty_files_are_faults_of_the_map() {
    let check = |geoip: &dyn Fn(&str) -> Result<Arc<GeoIp>, String>, expect: &str| {
        let faults = parsed(PLACES, geoip).unwrap_err();
        assert_eq!(faults.count(), 1);
        let fault = faults.iter().next().unwrap();
        assert_eq!((fault.position(), fault.message()), ((25, 9), expect));
        assert!(fault.hint_text().is_some() && faults.render(false).contains("^^^^"));
    };
    let of = |contents: Vec<u8>| {
        move |name: &str| {
            GeoIp::read(contents.clone()).map(Arc::new).map_err(|why| format!("{name} {why}"))
        }
    };
    check(
        &|_| Err("x.mmdb can't be read: gone".to_owned()),
        "the GeoIP file x.mmdb can't be read: gone",
    );
    let asn = mmdb::countries("GeoLite2-ASN", &[]);
    check(&of(asn), "the GeoIP file countries.mmdb tells no countries: it is of type GeoLite2-ASN");
    for contents in [Vec::new(), b"no database".to_vec(), file()[..file().len() / 2].to_vec()] {
        let faults = parsed(PLACES, &of(contents)).unwrap_err();
        let fault = faults.iter().next().unwrap();
        assert!(fault.message().contains("is not a MaxMind database"), "{}", fault.message());
    }
}

#[test]
fn torn_files_tell_nothing() {
    let whole = file();
    let addresses = ["81.2.3.4", "66.1.2.3", "127.0.0.1", "::1"];
    for at in 0..whole.len() {
        for put in [0, 0xff, 0x7f, whole[at] ^ 0x20] {
            let mut torn = whole.clone();
            torn[at] = put;
            let Ok(torn) = GeoIp::read(torn) else { continue };
            for address in addresses {
                // Whatever it is, it is an answer.
                let _ = torn.country(address.parse().unwrap());
            }
        }
    }
}

#[test]
fn regions_that_are_no_countries_are_warned_of() {
    let text = PLACES.replace("USA =", "NORTH =").replace("DE =", "SOUTH =").replace("MEX", "WEST");
    let text = text.replace("\"DE\"", "\"SOUTH\"");
    let (_, warnings) = parsed(&text, &read).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].message(), "no region is a country that a GeoIP file could tell");
}
