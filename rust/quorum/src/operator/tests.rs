//! What operators see of a cluster, and what becomes of what they ask for.
use hashroute_core::{Parameters, Pod};
use tonic::Status;

use super::*;
use crate::proto;
use crate::proto::make_change_response::Result as Made;
use crate::proto::record_change::Change;
use crate::testing::certificates::{Authority, Made as Certificate};
use crate::testing::server::FakeVoter;
use crate::testing::{CLUSTER, both, entry, join, pod};
use crate::transport::server_tls;

/// Long enough for every answer that comes, and over at once where none does.
const PATIENCE: Duration = Duration::from_secs(20);

fn operator_of(voters: &[&FakeVoter], timeout: Duration) -> Operator {
    let voters = voters.iter().map(|voter| voter.address.clone()).collect();
    let cluster = CLUSTER.to_owned();
    Operator::new(OperatorSettings { cluster, voters, etcd: None, tls: None, timeout }).unwrap()
}

fn operator(voters: &[FakeVoter]) -> Operator {
    operator_of(&voters.iter().collect::<Vec<_>>(), PATIENCE)
}

fn three() -> [FakeVoter; 3] {
    [30, 10, 20].map(|id| FakeVoter::start(Some(id)))
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn view() -> View {
    let pods = ["b", "a"].map(|name| Pod::new(pod(name))).to_vec();
    View::new(Epoch::new(9), Parameters::new(8, 0.05, 0).unwrap(), pods).unwrap()
}

fn found(operator: &Operator) -> Result<Record, ChangeFailed> {
    let groups = [("gateway".to_owned(), vec![pod("b"), pod("a")])];
    operator.found(&view(), LeaseParameters::DEFAULT, &groups)
}

fn record_of(voter: &FakeVoter) -> Option<Record> {
    let message = voter.says.lock().unwrap().record.clone()?;
    Some(Codec::new(CLUSTER.to_owned()).record(&message).unwrap())
}

#[test]
fn settings_are_read_from_a_document_and_checked() {
    let document = r#"{"cluster": "desk-7", "voters": ["a:1"], "tls": null, "timeout_ms": 500}"#;
    let settings = OperatorSettings::from_json(document).unwrap();
    assert_eq!((settings.timeout, settings.voters.len()), (Duration::from_millis(500), 1));
    let unknown = document.replace("tls", "tsl");
    assert!(OperatorSettings::from_json(&unknown).unwrap_err().to_string().contains("tsl"));
    let refused = Operator::new(OperatorSettings { voters: vec!["a".to_owned()], ..settings });
    assert_eq!(refused.unwrap_err().code(), "setting");
}

#[test]
fn everybody_is_described_in_the_order_of_the_settings() {
    let (voters, silent) = (three(), nobody());
    voters[1].set(|it| it.record = Some(Codec::new(CLUSTER.to_owned()).record_out(&both())));
    voters[2].set(|it| it.voter_id.clear());
    let mut addresses: Vec<String> = voters.iter().map(|voter| voter.address.clone()).collect();
    addresses.insert(1, silent.clone());
    let cluster = CLUSTER.to_owned();
    let settings =
        OperatorSettings { cluster, voters: addresses, etcd: None, tls: None, timeout: PATIENCE };
    let described = Operator::new(settings).unwrap().describe();
    let [first, failed, second, third] = described.try_into().unwrap();
    let (first, second, third) = (first.unwrap(), second.unwrap(), third.unwrap());
    assert_eq!((&first.address, &first.cluster), (&voters[0].address, &CLUSTER.to_owned()));
    assert_eq!((first.voter_id, first.record), (format!("{:032x}", 30), None));
    assert_eq!(second.record, Some(both()));
    assert_eq!(third.voter_id, "", "it does not vote");
    let failed = failed.unwrap_err();
    assert_eq!(failed.address, silent);
    assert!(failed.reason.contains("refused"), "{failed}");
}

#[test]
fn what_a_process_says_is_checked() {
    let voter = FakeVoter::start(Some(1));
    let described = |change: fn(&mut crate::testing::server::Says)| {
        voter.set(change);
        operator_of(&[&voter], PATIENCE).describe().pop().unwrap()
    };
    let short = described(|it| it.voter_id = vec![1, 2]).unwrap_err();
    assert_eq!(short.reason, "voter_id has 2 bytes: expected 16");
    let bad = described(|it| {
        it.voter_id.clear();
        it.record = Some(proto::Record { cluster: CLUSTER.to_owned(), ..Default::default() });
    });
    assert_eq!(bad.unwrap_err().reason, "its record: cluster_id has 0 bytes: expected 16");
    let other = described(|it| {
        it.cluster = "desk-8".to_owned();
        it.record = Some(Codec::new("desk-8".to_owned()).record_out(&both()));
    });
    let other = other.unwrap();
    assert_eq!(
        (&*other.cluster, other.record),
        ("desk-8", Some(both())),
        "it is shown all the same"
    );
}

#[test]
fn founding_tells_every_voter_the_same_first_record() {
    let voters = three();
    let record = found(&operator(&voters)).unwrap();
    assert_eq!(record.epoch(), Epoch::new(1), "whatever the view's");
    let entries: Vec<(u128, &str)> =
        record.voters().iter().map(|it| (it.id.0, it.address.as_str())).collect();
    let [one, two, three] = &voters;
    let expected =
        [(30, one.address.as_str()), (10, two.address.as_str()), (20, three.address.as_str())];
    assert_eq!(entries, expected, "in the order of the settings");
    assert_eq!(record.view().pods().len(), 2);
    assert_eq!(record.parameters(), LeaseParameters::DEFAULT);
    assert_eq!(record.group("gateway").unwrap().candidates, [pod("b"), pod("a")]);
    let draft = proto::Record {
        cluster_id: Vec::new(),
        ..Codec::new(CLUSTER.to_owned()).record_out(&record)
    };
    assert_eq!(record.cluster(), crate::wire::cluster_id(CLUSTER, &draft));
    assert!(voters.iter().all(|voter| record_of(voter) == Some(record.clone())));
}

#[test]
fn founding_is_finished_by_repeating_it() {
    let voters = three();
    voters[2].set(|it| it.refuses = Some(Status::unavailable("not now")));
    let refused = found(&operator(&voters)).unwrap_err();
    assert_eq!(refused.code(), "quorum_unreachable");
    assert!(refused.to_string().contains("repeat it"), "{refused}");
    // The others have gone on since.
    let first = record_of(&voters[0]).unwrap();
    let codec = Codec::new(CLUSTER.to_owned());
    voters[0].set(|it| it.record = Some(codec.record_out(&join(&first, "a", 1))));
    voters[2].set(|it| it.refuses = None);
    assert_eq!(found(&operator(&voters)), Ok(first.clone()));
    assert_eq!(record_of(&voters[2]), Some(first));
    let founded: Vec<usize> = voters.iter().map(|it| it.says.lock().unwrap().founded).collect();
    assert_eq!(founded, [1, 1, 2], "who has a record is not told again");
}

#[test]
fn a_cluster_is_founded_once() {
    let voters = three();
    found(&operator(&voters)).unwrap();
    let other = operator(&voters).found(&view(), LeaseParameters::TIGHT, &[]).unwrap_err();
    assert_eq!(other.code(), "founded_already");
    assert!(other.to_string().contains(&voters[0].address), "{other}");
}

#[test]
fn nothing_is_founded_unless_all_of_it_can_be() {
    let founds = |change: &dyn Fn(&mut crate::testing::server::Says)| {
        let voters = three();
        voters[1].set(|says| change(says));
        let failed = found(&operator(&voters)).unwrap_err();
        assert!(voters.iter().all(|it| it.says.lock().unwrap().founded == 0), "{failed}");
        failed.code().to_owned()
    };
    assert_eq!(founds(&|it| it.voter_id.clear()), "not_a_voter");
    assert_eq!(founds(&|it| it.voter_id[15] = 30), "same_voter");
    assert_eq!(founds(&|it| it.cluster = "desk-8".to_owned()), "other_cluster");
    let voters = three();
    let silent = nobody();
    let mut addresses: Vec<String> = voters.iter().map(|voter| voter.address.clone()).collect();
    addresses[1].clone_from(&silent);
    let cluster = CLUSTER.to_owned();
    let settings =
        OperatorSettings { cluster, voters: addresses, etcd: None, tls: None, timeout: PATIENCE };
    let failed = found(&Operator::new(settings).unwrap()).unwrap_err();
    assert_eq!(failed.code(), "quorum_unreachable");
    assert!(failed.to_string().contains(&silent), "{failed}");
    let two = operator_of(&[&voters[0], &voters[1]], PATIENCE);
    assert_eq!(found(&two).unwrap_err().code(), "voters");
    let lease =
        LeaseParameters { margin: LeaseParameters::DEFAULT.ttl, ..LeaseParameters::DEFAULT };
    let unsafe_lease = operator(&voters).found(&view(), lease, &[]).unwrap_err();
    assert_eq!(unsafe_lease.code(), "lease_unsafe");
    let pods = view().pods().to_vec();
    let fine = View::new(Epoch::new(1), Parameters::new(1 << 21, 0.05, 0).unwrap(), pods).unwrap();
    let too_fine = operator(&voters).found(&fine, LeaseParameters::DEFAULT, &[]).unwrap_err();
    assert_eq!(too_fine.code(), "message_malformed", "more slots than voters agree on");
    let twins = [("g".to_owned(), Vec::new()), ("g".to_owned(), Vec::new())];
    let twice = operator(&voters).found(&view(), LeaseParameters::DEFAULT, &twins).unwrap_err();
    assert_eq!(twice.code(), "duplicate_group");
    assert!(voters.iter().all(|it| it.says.lock().unwrap().founded == 0));
}

#[test]
fn a_voter_that_refuses_the_founding_is_named() {
    let voters = three();
    voters[0].set(|it| it.refuses = Some(Status::failed_precondition("of another founding")));
    let refused = found(&operator(&voters)).unwrap_err();
    assert_eq!(refused.code(), "found_refused");
    let expected = format!("{}: of another founding", voters[0].address);
    assert_eq!(refused.to_string(), expected);
}

fn made(result: Made) -> Option<Result<proto::MakeChangeResponse, Status>> {
    Some(Ok(proto::MakeChangeResponse { result: Some(result) }))
}

#[test]
fn a_change_is_asked_of_the_first_who_can_make_it() {
    let voters = three();
    voters[0].set(|it| it.made = Some(Err(Status::unavailable("no member attends"))));
    voters[1].set(|it| it.made = made(Made::Epoch(7)));
    let operator = operator(&voters);
    let documents = [
        r#"{"drain": {"pod": "a"}}"#,
        r#"{"remove": {"pod": "a"}}"#,
        r#"{"reweight": {"pod": "a", "weight": 2.5}}"#,
        r#"{"lead": {"group": "g", "leader": "a"}}"#,
        r#"{"lead": {"group": "g", "leader": null}}"#,
        r#"{"add_group": {"name": "g", "candidates": ["a", "b"]}}"#,
    ];
    for document in documents {
        assert_eq!(operator.change(document), Ok(Epoch::new(7)), "{document}");
    }
    let (pod, group) = ("a".to_owned(), "g".to_owned());
    let expected = [
        Change::Drain(proto::DrainMember { pod: pod.clone() }),
        Change::Remove(proto::RemoveMember { pod: pod.clone() }),
        Change::Reweight(proto::ReweightMember { pod: pod.clone(), weight: 2.5 }),
        Change::Lead(proto::LeadGroup { group: group.clone(), leader: pod.clone() }),
        Change::Lead(proto::LeadGroup { group: group.clone(), leader: String::new() }),
        Change::AddGroup(proto::AddGroup { name: group, candidates: vec![pod, "b".to_owned()] }),
    ];
    let expected = expected.map(|it| proto::RecordChange { change: Some(it) });
    assert_eq!(voters[1].says.lock().unwrap().changes, expected);
    assert!(voters[2].says.lock().unwrap().changes.is_empty());
}

#[test]
fn what_comes_of_a_change_is_said_for_certain_or_called_unknown() {
    let voters = three();
    let change = |made, timeout| {
        voters[0].set(|it| it.made = made);
        let voters: Vec<&FakeVoter> = voters.iter().collect();
        operator_of(&voters, timeout).change(r#"{"drain": {"pod": "x"}}"#).unwrap_err()
    };
    let (code, message) = ("unknown_pod".to_owned(), "no pod x".to_owned());
    let refused = proto::ChangeRefused { code: code.clone(), message: message.clone() };
    let refused = change(made(Made::Refused(refused)), PATIENCE);
    assert_eq!(refused, ChangeFailed::Told { code, message });
    let invalid = change(Some(Err(Status::invalid_argument("pod is empty"))), PATIENCE);
    assert_eq!(invalid.code(), "invalid_argument");
    let precondition = Status::failed_precondition("of cluster desk-8");
    let other = change(Some(Err(precondition)), PATIENCE);
    assert_eq!(other.code(), "failed_precondition");
    assert!(other.to_string().contains(&voters[0].address));
    let defect = change(Some(Err(Status::internal("a defect"))), PATIENCE);
    assert_eq!(defect.code(), "change_unknown");
    let late = change(None, Duration::from_millis(300));
    assert_eq!(late, ChangeFailed::Unknown { patience_ms: 300 });
    let untouched = voters[1].says.lock().unwrap().changes.len();
    assert_eq!(untouched, 0, "what may have been made is asked of nobody else");
}

#[test]
fn a_connection_that_ends_after_the_question_leaves_it_open_whether_the_change_is_made() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (cluster, voters) = (CLUSTER.to_owned(), vec![listener.local_addr().unwrap().to_string()]);
    let accepting = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        assert!(connection.read(&mut [0; 1_000]).unwrap() > 0);
    });
    let settings = OperatorSettings { cluster, voters, etcd: None, tls: None, timeout: PATIENCE };
    let operator = Operator::new(settings).unwrap();
    let failed = operator.change(r#"{"drain": {"pod": "a"}}"#).unwrap_err();
    assert_eq!(failed.code(), "change_unknown");
    accepting.join().unwrap();
}

#[test]
fn a_change_that_nobody_can_make_says_whom_was_asked() {
    let voters = three();
    for voter in &voters {
        voter.set(|it| it.made = Some(Err(Status::unavailable("no member attends"))));
    }
    let failed = operator(&voters).change(r#"{"drain": {"pod": "a"}}"#).unwrap_err();
    assert_eq!(failed.code(), "quorum_unreachable");
    assert!(voters.iter().all(|voter| failed.to_string().contains(&voter.address)));
}

#[test]
fn what_is_no_change_is_refused_with_the_reason() {
    let voters = three();
    let operator = operator(&voters);
    for document in [
        "",
        "{}",
        "[]",
        r#"{"drain": {}}"#,
        r#"{"drain": {"pod": "a", "more": 1}}"#,
        r#"{"move": {"pod": "a"}}"#,
        r#"{"drain": {"pod": "a"}, "remove": {"pod": "a"}}"#,
        r#"{"reweight": {"pod": "a", "weight": "2"}}"#,
    ] {
        assert_eq!(operator.change(document).unwrap_err().code(), "change_malformed", "{document}");
    }
}

/// A cluster whose record has voters 1, 2 and 3, and one process that is to come.
fn replacing() -> ([FakeVoter; 3], FakeVoter) {
    let voters = [1, 2, 3].map(|id| FakeVoter::start(Some(id)));
    let codec = Codec::new(CLUSTER.to_owned());
    // The first is behind.
    let behind = crate::testing::first();
    for (voter, record) in voters.iter().zip([&behind, &both(), &both()]) {
        voter.set(|it| it.record = Some(codec.record_out(record)));
        voter.set(|it| it.made = made(Made::Epoch(4)));
    }
    (voters, FakeVoter::start(Some(4)))
}

#[test]
fn a_voter_is_replaced_by_its_id_or_its_address() {
    let (voters, new) = replacing();
    let operator = operator(&voters);
    for old in [format!("{:032x}", 2), entry(2).address] {
        let change =
            format!(r#"{{"replace_voter": {{"old": "{old}", "new": "{}"}}}}"#, new.address);
        assert_eq!(operator.change(&change), Ok(Epoch::new(4)));
        let asked = voters[0].says.lock().unwrap().changes.pop().unwrap();
        let entry =
            proto::Voter { id: 4_u128.to_be_bytes().to_vec(), address: new.address.clone() };
        let old_id = 2_u128.to_be_bytes().to_vec();
        let expected = proto::ReplaceVoter { old_id, new: Some(entry) };
        assert_eq!(asked.change, Some(Change::ReplaceVoter(expected)));
    }
}

#[test]
fn who_cannot_take_a_voters_place_is_refused_with_the_reason() {
    let (voters, new) = replacing();
    let operator = operator(&voters);
    let change = |old: &str, new: &str| {
        let change = format!(r#"{{"replace_voter": {{"old": "{old}", "new": "{new}"}}}}"#);
        operator.change(&change).unwrap_err()
    };
    let two = format!("{:032x}", 2);
    let unknown = change("voter-9:9010", &new.address);
    assert_eq!(unknown.code(), "unknown_voter");
    assert!(unknown.to_string().contains("voter-2:9010"), "it says who there is: {unknown}");
    assert_eq!(change(&two, &voters[2].address).code(), "already_a_voter");
    assert_eq!(change(&two, &nobody()).code(), "quorum_unreachable");
    assert_eq!(change(&two, "nowhere").code(), "setting");
    new.set(|it| it.voter_id.clear());
    assert_eq!(change(&two, &new.address).code(), "not_a_voter");
    new.set(|it| it.voter_id = vec![7; 16]);
    let strange = {
        let record = crate::testing::first();
        let (lease, voters) = (record.parameters(), record.voters().to_vec());
        let id = hashroute_coordination::ClusterId(99);
        Record::first(id, lease, voters, record.view()).unwrap()
    };
    new.set(|it| it.record = Some(Codec::new(CLUSTER.to_owned()).record_out(&strange)));
    assert_eq!(change(&two, &new.address).code(), "other_cluster");
    new.set(|it| (it.cluster, it.record) = ("desk-8".to_owned(), None));
    assert_eq!(change(&two, &new.address).code(), "other_cluster");
    let (unfounded, new) = (three(), FakeVoter::start(Some(4)));
    let replace = format!(r#"{{"replace_voter": {{"old": "{two}", "new": "{}"}}}}"#, new.address);
    let failed = self::operator(&unfounded).change(&replace).unwrap_err();
    assert_eq!(failed.code(), "no_record");
    assert!(voters.iter().all(|it| it.says.lock().unwrap().changes.is_empty()));
}

#[test]
fn an_operator_shows_a_certificate_where_voters_ask_for_one() {
    let authority = Authority::new();
    let tls = authority.sign("own", &Certificate::default());
    let voter = FakeVoter::with_tls(Some(1), Some(server_tls(&tls).unwrap()));
    let (cluster, voters) = (CLUSTER.to_owned(), vec![voter.address.clone()]);
    let settings =
        OperatorSettings { cluster, voters, etcd: None, tls: Some(tls), timeout: PATIENCE };
    let described = Operator::new(settings.clone()).unwrap().describe().pop().unwrap();
    assert_eq!(described.unwrap().voter_id, format!("{:032x}", 1));
    let clear = Operator::new(OperatorSettings { tls: None, ..settings.clone() }).unwrap();
    let failed = clear.describe().pop().unwrap().unwrap_err();
    assert!(failed.reason.contains("does the other side expect TLS?"), "{failed}");
    let expired =
        authority.sign("old", &Certificate { years: (2000, 2001), ..Certificate::default() });
    let refused = Operator::new(OperatorSettings { tls: Some(expired), ..settings }).unwrap_err();
    assert_eq!(refused.code(), "tls");
    assert!(refused.to_string().contains("has expired"), "{refused}");
}
