//! A connection is made between processes whose certificates the cluster's authority signed, and
//! with nobody else.
use std::fs;

use rcgen::ExtendedKeyUsagePurpose;
use tonic::Status;
use tonic::transport::Channel;

use super::*;
use crate::proto;
use crate::proto::quorum_client::QuorumClient;
use crate::testing::certificates::{Authority, Made};
use crate::testing::server::FakeVoter;

/// One call; what came of it, in words.
fn call(endpoint: &Endpoint) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel: Channel = endpoint.connect().await.map_err(|error| reason(&error))?;
        let called = QuorumClient::new(channel).describe(proto::DescribeRequest {}).await;
        called.map(drop).map_err(|status: Status| reason(&status))
    })
}

fn pem(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// A voter that shows what its own check would not let it show.
fn unchecked_server(tls: &TlsSettings) -> FakeVoter {
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(pem(&tls.certificate), pem(&tls.key)))
        .client_ca_root(Certificate::from_pem(pem(&tls.ca)));
    FakeVoter::with_tls(Some(1), Some(config))
}

/// Whoever calls, trusting `ca` and showing what its own check would not let it show.
fn unchecked_client(voter: &FakeVoter, ca: &Path, shown: Option<&TlsSettings>) -> Endpoint {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(ca)));
    if let Some(tls) = shown {
        config = config.identity(Identity::from_pem(pem(&tls.certificate), pem(&tls.key)));
    }
    let address = format!("https://{}", voter.address);
    Endpoint::from_shared(address).unwrap().tls_config(config).unwrap()
}

fn was_called(voter: &FakeVoter) -> bool {
    voter.says.lock().unwrap().described > 0
}

#[test]
fn processes_of_one_authority_talk() {
    let authority = Authority::new();
    let (one, other) =
        (authority.sign("one", &Made::default()), authority.sign("other", &Made::default()));
    let voter = FakeVoter::with_tls(Some(1), Some(server_tls(&one).unwrap()));
    assert_eq!(call(&endpoint(&voter.address, Some(&other)).unwrap()), Ok(()));
    assert!(was_called(&voter));
}

#[test]
fn in_the_clear_they_talk_too() {
    let voter = FakeVoter::start(Some(1));
    assert_eq!(call(&endpoint(&voter.address, None).unwrap()), Ok(()));
}

#[test]
fn who_shows_no_certificate_or_a_bad_one_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("own", &Made::default());
    let voter = FakeVoter::with_tls(Some(1), Some(server_tls(&own).unwrap()));
    let expired = authority.sign("expired", &Made { years: (2000, 2001), ..Made::default() });
    let early = authority.sign("early", &Made { years: (2100, 2101), ..Made::default() });
    let strange = stranger.sign("strange", &Made::default());
    let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let for_servers = authority.sign("servers", &Made { purposes, ..Made::default() });
    for shown in [None, Some(&expired), Some(&early), Some(&strange), Some(&for_servers)] {
        let refused = call(&unchecked_client(&voter, &own.ca, shown)).unwrap_err();
        assert!(!refused.is_empty());
        assert!(!was_called(&voter), "{shown:?}");
    }
    let clear = call(&endpoint(&voter.address, None).unwrap());
    assert!(clear.is_err() && !was_called(&voter), "nor one that does not speak TLS");
    assert_eq!(call(&unchecked_client(&voter, &own.ca, Some(&own))), Ok(()));
}

#[test]
fn a_voter_that_shows_a_bad_certificate_is_not_talked_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("own", &Made::default());
    let check = |shown: &TlsSettings, said: &str| {
        let voter = unchecked_server(shown);
        let refused = call(&endpoint(&voter.address, Some(&own)).unwrap()).unwrap_err();
        assert!(refused.contains(said), "{refused}");
        assert!(!was_called(&voter));
    };
    check(&authority.sign("old", &Made { years: (2000, 2001), ..Made::default() }), "expired");
    check(
        &authority.sign("new", &Made { years: (2100, 2101), ..Made::default() }),
        "not valid yet",
    );
    check(&stranger.sign("strange", &Made::default()), "UnknownIssuer");
    let names = vec!["voter.example".to_owned()];
    check(&authority.sign("other", &Made { names, ..Made::default() }), "voter.example");
    let clear = FakeVoter::start(Some(1));
    assert!(call(&endpoint(&clear.address, Some(&own)).unwrap()).is_err());
    assert!(!was_called(&clear), "nor one that does not speak TLS");
}

#[test]
fn the_name_of_the_settings_is_the_one_that_counts() {
    let authority = Authority::new();
    let names = vec!["voter.example".to_owned()];
    let own = authority.sign("own", &Made { names, ..Made::default() });
    let voter = FakeVoter::with_tls(Some(1), Some(server_tls(&own).unwrap()));
    let named = TlsSettings { server_name: Some("voter.example".to_owned()), ..own };
    assert_eq!(call(&endpoint(&voter.address, Some(&named)).unwrap()), Ok(()));
}

/// What a process that is to use these files says at its start, once as a client and once as a
/// voter.
fn refused(settings: &TlsSettings) -> [Option<(std::path::PathBuf, String)>; 2] {
    let refused = |error: StartError| {
        let code = error.code();
        let StartError::Tls { path, reason } = error else { panic!("{error}") };
        assert_eq!(code, "tls");
        (path, reason)
    };
    let client = endpoint("127.0.0.1:1", Some(settings)).err().map(refused);
    [client, server_tls(settings).err().map(refused)]
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("own", &Made::default());
    let other = authority.sign("other", &Made::default());
    assert_eq!(refused(&own), [None, None]);
    let check = |settings: &TlsSettings, path: &Path, said: &str| {
        for refused in refused(settings) {
            let (at, reason) = refused.unwrap();
            assert_eq!(at, path);
            assert!(reason.contains(said), "{reason}");
        }
    };
    let absent = authority.path("absent.pem");
    check(&TlsSettings { ca: absent.clone(), ..own.clone() }, &absent, "cannot be read");
    check(&TlsSettings { key: absent.clone(), ..own.clone() }, &absent, "cannot be read");
    let empty = authority.path("empty.pem");
    fs::write(&empty, "").unwrap();
    check(&TlsSettings { ca: empty.clone(), ..own.clone() }, &empty, "no certificate in it");
    check(
        &TlsSettings { certificate: empty.clone(), ..own.clone() },
        &empty,
        "no certificate in it",
    );
    check(&TlsSettings { key: empty.clone(), ..own.clone() }, &empty, "no private key in it");
    let swapped =
        TlsSettings { certificate: own.key.clone(), key: own.certificate.clone(), ..own.clone() };
    check(&swapped, &own.key, "no certificate in it");
    let garbage = authority.path("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n").unwrap();
    check(&TlsSettings { ca: garbage.clone(), ..own.clone() }, &garbage, "not a PEM file");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    check(
        &TlsSettings { ca: garbage.clone(), ..own.clone() },
        &garbage,
        "not a certificate of an authority",
    );
    let mixed = TlsSettings { key: other.key.clone(), ..own.clone() };
    check(&mixed, &other.key, "not the key of the certificate");
    let strange = TlsSettings { ca: stranger.path("ca.pem"), ..own.clone() };
    check(&strange, &own.certificate, "not signed by the authority");
    let old = authority.sign("old", &Made { years: (2000, 2001), ..Made::default() });
    check(&old, &old.certificate, "has expired");
    let new = authority.sign("new", &Made { years: (2100, 2101), ..Made::default() });
    check(&new, &new.certificate, "not valid yet");
}

#[test]
fn a_certificate_is_made_out_for_the_side_that_shows_it() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let authority = Authority::new();
    let only = |purpose: ExtendedKeyUsagePurpose| {
        refused(&authority.sign("own", &Made { purposes: vec![purpose], ..Made::default() }))
    };
    let [as_client, as_voter] = only(ServerAuth);
    assert!(as_client.unwrap().1.contains("must have clientAuth") && as_voter.is_none());
    let [as_client, as_voter] = only(ClientAuth);
    assert!(as_voter.unwrap().1.contains("must have serverAuth") && as_client.is_none());
}

#[test]
fn what_is_no_address_is_refused_with_what_was_expected() {
    for address in ["", "host", ":9010", "host:", "host:0", "host:70000", "http://host:1", "a b:1"]
    {
        let refused = endpoint(address, None).unwrap_err();
        assert_eq!(refused.code(), "setting");
        assert!(refused.to_string().contains("expected host:port"), "{refused}");
    }
    for address in ["10.0.0.1:9010", "[::1]:9010", "voter-1.desk.example:9010"] {
        assert!(endpoint(address, None).is_ok(), "{address}");
    }
}
