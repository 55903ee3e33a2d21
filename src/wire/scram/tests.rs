use std::sync::LazyLock;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;

/// The example of RFC 7677, section 3.
const RFC_SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const RFC_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn rfc_verifier() -> Verifier {
    static VERIFIER: LazyLock<Verifier> = LazyLock::new(derive_rfc_verifier);
    VERIFIER.clone()
}

fn derive_rfc_verifier() -> Verifier {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(b"pencil", &salt, 4096, &mut salted);
    Verifier {
        salt,
        iterations: 4096,
        stored_key: sha256(&hmac_sha256(&salted, b"Client Key")),
        server_key: hmac_sha256(&salted, b"Server Key"),
        real: true,
    }
}

fn with_nonce(verifier: Verifier, nonce: &str) -> ServerExchange {
    ServerExchange { verifier, nonce: nonce.to_owned(), binding: Binding::Unsupported }
}

fn rfc_exchange() -> AwaitingProof {
    let exchange = with_nonce(rfc_verifier(), RFC_SERVER_NONCE);
    let (next, challenge) = exchange.first(RFC_FIRST).unwrap();
    assert_eq!(
        challenge,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    next
}

#[test]
fn the_rfc_s_example() {
    let done = rfc_exchange().last(RFC_FINAL.as_bytes()).unwrap();
    assert_eq!(done.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(sha256(&done.client_key), rfc_verifier().stored_key);
}

fn exchange_with_client(verifier: Verifier, password: &[u8]) -> Result<(), ScramError> {
    let mut client = ScramSha256::new(password, ChannelBinding::unsupported());
    let (server, challenge) =
        ServerExchange::new(verifier, Binding::Unsupported).first(client.message())?;
    client.update(challenge.as_bytes()).unwrap();
    let done = server.last(client.message())?;
    client.finish(done.server_final.as_bytes()).unwrap();
    Ok(())
}

#[test]
fn passwords() {
    let check = |verifier: &str, password: &str, right: bool| {
        let verifier = Verifier::from_password(verifier.as_bytes());
        let expect = if right { Ok(()) } else { Err(ScramError::WrongPassword) };
        assert_eq!(exchange_with_client(verifier, password.as_bytes()), expect, "{password}");
    };
    check("bot", "bot", true);
    check("bot", "bo", false);
    check("", "", true);
    check("pass word", "pass\u{a0}word", true);
    check("\u{2168}", "IX", true);
    check("a\x07b", "a\x07b", true);
    let nobody = Verifier::mock(b"secret", "nobody");
    assert_eq!(exchange_with_client(nobody, b""), Err(ScramError::WrongPassword));
}

#[test]
fn unknown_users_look_like_known_ones() {
    let challenge = |user: &str| {
        let exchange = with_nonce(Verifier::mock(b"secret", user), "N");
        exchange.first(RFC_FIRST).unwrap().1
    };
    assert_eq!(challenge("a"), challenge("a"));
    assert_ne!(challenge("a"), challenge("b"));
    let real = with_nonce(Verifier::from_password(b"x"), "N");
    assert_eq!(challenge("a").len(), real.first(RFC_FIRST).unwrap().1.len());
}

#[test]
fn verifiers_are_read() {
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let verifier = Verifier::parse(text).unwrap();
    assert_eq!(verifier.stored_key, rfc_verifier().stored_key);
    assert_eq!(verifier.server_key, rfc_verifier().server_key);
    let check = |text: &str| assert!(Verifier::parse(text).is_none(), "{text}");
    check("");
    check("md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    check("SCRAM-SHA-256$0:W22Z$WG5d:wfPL");
    check("SCRAM-SHA-256$4096:W22Z$WG5d:wfPL");
    check(&text.replace("W22Z", "****"));
}

fn check_first(message: &[u8], expect: &str) {
    let exchange = ServerExchange::new(rfc_verifier(), Binding::Unsupported);
    let error = exchange.first(message).unwrap_err().sql_error("u");
    let shown = format!("{}: {}", error.message, error.detail.unwrap_or_default());
    assert!(shown.contains(expect), "{shown} / {expect}");
}

#[test]
fn faulty_first_messages() {
    check_first(b"", "The message is empty.");
    check_first(b"n,,n=,r=\0", "Message length does not match");
    check_first(b"p=tls-server-end-point,,n=,r=x", "without channel binding");
    check_first(b"x,,n=,r=x", "Unexpected channel-binding flag \"x\"");
    check_first(b"n", "Comma expected");
    check_first(b"n,a=other,n=,r=x", "authorization identity");
    check_first(b"n,x,n=,r=x", "Unexpected attribute");
    check_first(b"n,,m=x,n=,r=x", "unsupported SCRAM extension");
    check_first(b"n,,r=x,n=", "Expected attribute \"n\" but found \"r\"");
    check_first(b"n,,n=", "end of message");
    check_first(b"n,,n=,r", "invalid characters");
    check_first(b"n,,n=,r=a\x01", "non-printable characters");
    check_first(b"n,,n=,r=", "non-printable characters");
}

#[test]
fn faulty_final_messages() {
    let check = |from: &str, to: &str, expect: &str| {
        let error = rfc_exchange().last(RFC_FINAL.replace(from, to).as_bytes()).unwrap_err();
        let error = error.sql_error("u");
        let shown = format!("{}: {}", error.message, error.detail.unwrap_or_default());
        assert!(shown.contains(expect), "{shown} / {expect}");
    };
    check("c=biws", "c=eSws", "unexpected SCRAM channel-binding attribute");
    check("r=rOpr", "r=xOpr", "Nonce does not match.");
    check("p=dHzb", "p=dHz", "Malformed proof");
    check("p=dHzb", "p=eHzb", "password authentication failed for user \"u\"");
    check("VQ=", "VQ=,x=y", "Garbage found");
    check(",p=", ",x=", "end of message");
    check(",p=", ",x=y,p=", "password authentication failed");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..64), text in "[nyp],?a?=?,[nmr]=[ -~]{0,6},[rpc]=[ -~ü]{0,9}") {
        for message in [&message[..], text.as_bytes()] {
            let _ = ServerExchange::new(Verifier::mock(b"", ""), Binding::Unsupported).first(message);
            let _ = ServerExchange::new(Verifier::mock(b"", ""), Binding::EndPoint(vec![1])).first(message);
            let _ = rfc_exchange().last(message);
        }
    }
}

mod with_channel_binding {
    use super::super::client::{ClientBinding, ClientError, ClientExchange, Credentials};
    use super::*;

    /// Both sides of an exchange.
    fn exchange(
        verifier: &Verifier,
        credentials: Credentials,
        server: Binding,
        client: ClientBinding<'_>,
    ) -> Result<Authenticated, String> {
        let said = |error: ScramError| error.sql_error("u").message;
        let client = ClientExchange::new(credentials, client);
        let (awaiting, challenge) = ServerExchange::new(verifier.clone(), server)
            .first(client.first().as_bytes())
            .map_err(said)?;
        let (client, proof) =
            client.challenged(challenge.as_bytes()).map_err(|error| error.to_string())?;
        let done = awaiting.last(proof.as_bytes()).map_err(said)?;
        client.finish(done.server_final.as_bytes()).map_err(|error| error.to_string())?;
        Ok(done)
    }

    fn password() -> Credentials {
        Credentials::Password(b"pencil".to_vec(), None)
    }

    #[test]
    fn both_sides_must_see_the_same_certificate() {
        let check = |server: Binding, client: ClientBinding<'_>, expect: Result<(), &str>| {
            let found = exchange(&rfc_verifier(), password(), server, client).map(|_| ());
            assert_eq!(found.as_ref().map_err(String::as_str).copied(), expect);
        };
        let bound = || Binding::EndPoint(vec![1, 2, 3]);
        check(bound(), ClientBinding::EndPoint(&[1, 2, 3]), Ok(()));
        check(bound(), ClientBinding::EndPoint(&[9]), Err("SCRAM channel binding check failed"));
        check(bound(), ClientBinding::NotOffered, Err("malformed SCRAM message"));
        check(bound(), ClientBinding::Unsupported, Err("malformed SCRAM message"));
        check(Binding::Declined, ClientBinding::Unsupported, Ok(()));
        check(
            Binding::Declined,
            ClientBinding::NotOffered,
            Err("SCRAM channel binding negotiation error"),
        );
        check(Binding::Unsupported, ClientBinding::NotOffered, Ok(()));
        check(Binding::Unsupported, ClientBinding::EndPoint(&[1]), Err("malformed SCRAM message"));
    }

    #[test]
    fn other_types_of_binding_are_refused() {
        let exchange = ServerExchange::new(rfc_verifier(), Binding::EndPoint(vec![1]));
        let error = exchange.first(b"p=tls-unique,,n=,r=x").unwrap_err().sql_error("u");
        assert_eq!(error.message, "unsupported SCRAM channel-binding type \"tls-unique\"");
    }

    #[test]
    fn a_client_s_key_logs_in_elsewhere() {
        let none = || (Binding::Unsupported, ClientBinding::Unsupported);
        let (server, client) = none();
        let done = exchange(&rfc_verifier(), password(), server, client).unwrap();
        let keys = rfc_verifier().client_keys(done.client_key);
        let (server, client) = none();
        let through = Credentials::Keys(keys.clone());
        assert!(exchange(&rfc_verifier(), through.clone(), server, client).is_ok());
        // The same password with another salt is another verifier.
        let other = Verifier::from_password(b"pencil");
        let (server, client) = none();
        let refused = exchange(&other, through, server, client).unwrap_err();
        assert_eq!(refused, "the password is stored there with another salt");
        assert!(!format!("{keys:?}").contains(char::is_numeric));
        // Beside a password they are taken where they fit, whatever the password is.
        let known = |password: &[u8]| Credentials::Password(password.to_vec(), Some(keys.clone()));
        for (verifier, password) in [(rfc_verifier(), &b"forgotten"[..]), (other, b"pencil")] {
            let (server, client) = none();
            assert!(exchange(&verifier, known(password), server, client).is_ok());
        }
    }

    #[test]
    fn a_server_must_know_the_password_too() {
        let client =
            || ClientExchange::with_nonce(password(), ClientBinding::Unsupported, "N".to_owned());
        let challenge = |text: &str| client().challenged(text.as_bytes()).map(|_| ());
        assert_eq!(client().first(), "n,,n=,r=N");
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        assert_eq!(challenge(&format!("r=NM,{salt},i=4096")), Ok(()));
        let malformed = |text: &str| {
            assert!(matches!(challenge(text), Err(ClientError::Protocol(_))), "{text}");
        };
        malformed(&format!("r=XM,{salt},i=4096"));
        malformed(&format!("r=N,{salt},i=4096"));
        malformed(&format!("r=NM,{salt},i=0"));
        malformed(&format!("r=NM,{salt}"));
        malformed("r=NM,s=*,i=1");
        assert_eq!(
            challenge(&format!("r=NM,{salt},i=4000000000")),
            Err(ClientError::Iterations(4_000_000_000))
        );
        let finish = |text: &str| {
            let (awaiting, _) = client().challenged(format!("r=NM,{salt},i=1").as_bytes()).unwrap();
            awaiting.finish(text.as_bytes())
        };
        assert_eq!(finish("v=AAAA"), Err(ClientError::ServerUnproven));
        assert_eq!(finish("e=other-error"), Err(ClientError::Refused("other-error".to_owned())));
        assert!(finish("x").is_err());
    }

    proptest! {
        #[test]
        fn no_server_makes_the_client_panic(message in prop::collection::vec(any::<u8>(), 0..64), text in "r=N[ -~]{0,6},s=[ -~]{0,9},i=[0-9]{0,3}") {
            for message in [&message[..], text.as_bytes()] {
                let client = ClientExchange::with_nonce(password(), ClientBinding::Unsupported, "N".to_owned());
                if let Ok((awaiting, _)) = client.challenged(message) {
                    let _ = awaiting.finish(message);
                }
            }
        }
    }
}
