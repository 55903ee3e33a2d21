//! Users: every method, keys that are passed through, limits, and guessers.

use std::time::{Duration, Instant};

use pgmeridian::backend::connect;
use pgmeridian::config::{Password, Secret};
use pgmeridian::demo::cluster::DATABASE;

use crate::clients::World;
use crate::pki::{self, Authority};
use crate::support::Proxy;
use crate::support::raw::{Message, Raw, Silence, frame, startup};

/// A role on the shards.
async fn role(world: &World, definition: &str) {
    world.shards.first().execute(DATABASE, &format!("CREATE ROLE {definition}")).await.unwrap();
}

async fn verifier(world: &World, role: &str) -> String {
    let client = world.shards.first().connect(DATABASE).await.unwrap();
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    client.query_one(sql, &[&role]).await.unwrap().get(0)
}

#[tokio::test]
async fn old_clients_by_md5_and_new_ones_by_scram() {
    let world = World::shared();
    for name in ["clear", "hashed", "verified"] {
        role(world, &format!("{name} LOGIN PASSWORD 'geheim'")).await;
    }
    let verifier = verifier(world, "verified").await;
    let users = format!(
        "[auth]\nmethod = 'md5'
        [[users]]\nname = 'clear'\npassword = 'geheim'
        [[users]]\nname = 'hashed'\npassword = 'HASH'\nshard_password = 'geheim'
        [[users]]\nname = 'verified'\npassword = '{verifier}'
        [[users]]\nname = 'another'\npassword = 'x'\n"
    );
    let hash = Password::Plain(Secret::new("geheim")).md5("hashed").unwrap();
    let users = users.replace("HASH", hash.expose());
    let proxy = world.proxy("", &users).await;
    for name in ["clear", "hashed", "verified"] {
        world.check(&proxy, &format!("user={name} password=geheim"), "in");
        let refused = format!("FATAL:  password authentication failed for user \"{name}\"");
        world.check(&proxy, &format!("user={name} password=falsch"), &refused);
    }
    // A verifier is no md5 hash: its user is asked as PostgreSQL would ask.
    assert_eq!(asked(&proxy, "clear"), "md5");
    assert_eq!(asked(&proxy, "hashed"), "md5");
    assert_eq!(asked(&proxy, "verified"), "SCRAM-SHA-256");
    // Who does not exist looks like the others.
    assert_eq!(asked(&proxy, "nobody"), "md5");
    let refused = "FATAL:  password authentication failed for user \"nobody\"";
    world.check(&proxy, "user=nobody password=x", refused);
    let (mut raw, salt) = (Raw::dial(proxy.address), 4);
    raw.send(&startup(&[("user", "clear"), ("database", DATABASE)]));
    assert_eq!(raw.receive().unwrap().body.len(), 4 + salt);
    raw.send(&frame(b'p', b"\0"));
    assert!(text(&raw.receive().unwrap()).contains("empty password returned by client"));
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// How a user is asked for a password.
fn asked(proxy: &Proxy, user: &str) -> String {
    let mut raw = Raw::dial(proxy.address);
    raw.send(&startup(&[("user", user), ("database", DATABASE)]));
    let message = raw.receive().unwrap();
    match message.body.get(..4) {
        Some([0, 0, 0, 5]) => "md5".to_owned(),
        Some([0, 0, 0, 10]) => text(&message).trim_matches(['\0', '\n']).to_owned(),
        _ => text(&message),
    }
}

#[tokio::test]
async fn certificates_say_who_somebody_is() {
    let world = World::shared();
    let other = Authority::new("another authority");
    for (name, pair) in [
        ("bot", world.ca.issue("bot", &[])),
        ("eve", world.ca.issue("eve", &[])),
        ("fake", other.issue("bot", &[])),
    ] {
        pki::write_pair(world.shards.first(), name, &pair);
    }
    let ca = format!(", client_ca = '{}'", world.file("ca.crt"));
    let proxy = world.proxy(&ca, "[auth]\nmethod = 'cert'\n").await;
    let with = |name: &str| {
        format!(
            "sslmode=require sslcert={} sslkey={}",
            world.file(&format!("{name}.crt")),
            world.file(&format!("{name}.key"))
        )
    };
    world.check(&proxy, &with("bot"), "in");
    let not_bot = "FATAL:  certificate authentication failed for user \"bot\"";
    world.check(&proxy, &with("eve"), not_bot);
    let no_eve = "FATAL:  role \"eve\" does not exist";
    world.check(&proxy, &format!("{} user=eve", with("eve")), no_eve);
    world.check(&proxy, &with("fake"), "alert unknown ca");
    let none = "FATAL:  connection requires a valid client certificate";
    world.check(&proxy, "sslmode=require", none);
    world.check(&proxy, "sslmode=disable", "no pg_hba.conf entry for host");
    // With passwords a certificate is not needed, but a false one is refused.
    let proxy = world.proxy(&ca, "").await;
    world.check(&proxy, "sslmode=require", "in");
    world.check(&proxy, &with("eve"), "in");
    world.check(&proxy, &with("fake"), "alert unknown ca");
}

#[tokio::test]
async fn a_client_s_keys_open_the_shards() {
    let world = World::shared();
    role(world, "app LOGIN PASSWORD 'geheim'").await;
    role(world, "changed LOGIN PASSWORD 'geheim'").await;
    let users = format!(
        "[[users]]\nname = 'app'\npassword = '{}'
        [[users]]\nname = 'changed'\npassword = '{}'\n",
        verifier(world, "app").await,
        verifier(world, "changed").await
    );
    // The same password, and yet another salt: the keys don't fit any more.
    let again = "ALTER ROLE changed PASSWORD 'geheim'";
    world.shards.first().execute(DATABASE, again).await.unwrap();
    let proxy = world.proxy("", &users).await;
    let app =
        |sql: &str| world.psql(&proxy, "user=app password=geheim channel_binding=require", sql);
    assert_eq!(app("SELECT current_user").unwrap(), "app");
    assert_eq!(app("SELECT 1").unwrap(), "1");
    world.check(
        &proxy,
        "user=app password=falsch",
        "password authentication failed for user \"app\"",
    );
    let refused = world.psql(&proxy, "user=changed password=geheim", "SELECT 1").unwrap_err();
    assert!(refused.contains("could not log in to shard \"usa-east\""), "{refused}");
    assert!(refused.contains("another salt or iteration count"), "{refused}");
    assert!(!proxy.log().contains("geheim"));
}

#[tokio::test]
async fn users_have_limits_of_their_own() {
    let world = World::shared();
    role(world, "limited LOGIN PASSWORD 'app'").await;
    let users = "[[users]]\nname = 'bot'\npassword = 'bot'\nclients_max = 2
        [[users]]\nname = 'limited'\npassword = 'app'\n";
    let proxy = world.proxy("", users).await;
    let dial = async |user: &str| {
        let target = World::target(&proxy, user, "sslmode=require");
        connect(&target, &[], Duration::from_secs(10)).await
    };
    let (first, _second) = (dial("bot:bot").await.unwrap(), dial("bot:bot").await.unwrap());
    let error = dial("bot:bot").await.unwrap_err().to_string();
    assert!(error.contains("too many connections for role \"bot\""), "{error}");
    assert!(dial("limited:app").await.is_ok());
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(10);
    while dial("bot:bot").await.is_err() {
        assert!(Instant::now() < deadline, "{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Names that nobody serves are PostgreSQL's own words.
    let nowhere = world.psql(&proxy, "dbname=nowhere", "SELECT 1").unwrap_err();
    assert!(nowhere.contains("FATAL:  database \"nowhere\" does not exist"), "{nowhere}");
}

/// A wrong password, and how long the answer takes.
fn guess(proxy: &Proxy, user: &str) -> Duration {
    let mut raw = Raw::dial(proxy.address);
    raw.send(&startup(&[("user", user), ("database", DATABASE)]));
    raw.receive().unwrap();
    let first = b"n,,n=,r=abcdefgh";
    let mut initial = b"SCRAM-SHA-256\0".to_vec();
    initial.extend_from_slice(&u32::try_from(first.len()).unwrap().to_be_bytes());
    initial.extend_from_slice(first);
    raw.send(&frame(b'p', &initial));
    let challenge = text(&raw.receive().unwrap());
    let nonce = challenge.split("r=").nth(1).unwrap().split(',').next().unwrap();
    let proof = format!("c=biws,r={nonce},p={}", "A".repeat(43) + "=");
    let began = Instant::now();
    raw.send(&frame(b'p', proof.as_bytes()));
    let refused = text(&raw.receive().unwrap());
    assert!(refused.contains(&format!("password authentication failed for user \"{user}\"")));
    assert_eq!(raw.receive(), Err(Silence::End));
    began.elapsed()
}

#[tokio::test]
async fn guessers_wait_and_others_do_not() {
    let world = World::shared();
    let proxy = world.proxy("", "").await;
    let first = guess(&proxy, "bot");
    assert!(first >= Duration::from_millis(190), "{first:?}");
    guess(&proxy, "bot");
    guess(&proxy, "bot");
    let fourth = guess(&proxy, "bot");
    assert!(fourth >= Duration::from_millis(390), "{fourth:?}");
    let address = proxy.address;
    let guessers: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut raw = Raw::dial(address);
                raw.send(&startup(&[("user", "bot"), ("database", DATABASE)]));
                raw.receive().map(|_| raw)
            })
        })
        .collect();
    // One who does not exist is no faster, the right password is not slowed down.
    assert!(guess(&proxy, "nobody") >= Duration::from_millis(190));
    drop(guessers.into_iter().map(|guesser| guesser.join().unwrap()).collect::<Vec<_>>());
    let began = Instant::now();
    world.check(&proxy, "", "in");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
