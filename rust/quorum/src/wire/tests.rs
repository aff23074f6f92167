//! What is written is read as the same, and what is not allowed is refused, whatever the bytes.
use std::time::Duration;

use hashroute_coordination::{
    Change, FromVoter, Record, RecordFields, Refusal, Sequence, ToPeer, ToVoter, VoterId,
};
use hashroute_core::{Epoch, View};
use proptest::prelude::*;

use super::limits::{CANDIDATES_MAX, GROUPS_MAX, SLOTS_MAX};
use super::*;
use crate::testing::{CLUSTER, ballots, both, changes, first, join, pod, records, writers};

fn codec() -> Codec {
    Codec::new(CLUSTER.to_owned())
}

/// Through bytes, and read by a codec that has seen nothing.
fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// Reads the bytes as every message that comes from outside. What is taken can be written again.
fn read_anything(bytes: &[u8]) {
    let mut codec = codec();
    if let Ok(message) = proto::AttendRequest::decode(bytes)
        && let Some(Ok(read)) = message.message.map(|it| codec.to_voter(it))
    {
        assert_eq!(codec.to_voter(codec.to_voter_out(&read)), Ok(read));
    }
    if let Ok(message) = proto::AttendResponse::decode(bytes)
        && let Some(Ok(read)) = message.message.map(|it| codec.from_voter(it))
    {
        assert_eq!(codec.from_voter(codec.from_voter_out(&read)), Ok(read));
    }
    if let Ok(message) = proto::PeerMessage::decode(bytes)
        && let Ok(read) = codec.to_peer(message)
    {
        assert_eq!(codec.to_peer(codec.to_peer_out(&read)), Ok(read));
    }
    if let Ok(message) = proto::RecordChange::decode(bytes)
        && let Ok(read) = change(&message, &both())
    {
        assert!(change_out(&read).is_some());
    }
}

fn epochs() -> impl Strategy<Value = Epoch> {
    (1..u64::MAX).prop_map(Epoch::new)
}

fn lists() -> impl Strategy<Value = Vec<hashroute_coordination::Writer>> {
    prop::collection::vec(writers(), 0..4)
}

fn to_voter() -> impl Strategy<Value = ToVoter> {
    let sequences = || any::<u64>().prop_map(Sequence);
    prop_oneof![
        (epochs(), writers(), sequences()).prop_map(|(epoch, writer, sequence)| ToVoter::Renew {
            epoch,
            writer,
            sequence
        }),
        (epochs(), writers(), sequences()).prop_map(|(epoch, writer, sequence)| ToVoter::Probe {
            epoch,
            writer,
            sequence
        }),
        writers().prop_map(|writer| ToVoter::Renounce { writer }),
        (epochs(), ballots(), lists()).prop_map(|(epoch, ballot, stop)| ToVoter::Prepare {
            epoch,
            ballot,
            stop
        }),
        (ballots(), records(), lists()).prop_map(|(ballot, record, released)| ToVoter::Accept {
            ballot,
            record,
            released
        }),
        records().prop_map(|record| ToVoter::Install { record }),
    ]
}

fn refusals() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        records().prop_map(Refusal::Behind),
        records().prop_map(Refusal::Pending),
        prop::sample::select(vec![
            Refusal::Ahead,
            Refusal::NotNamed,
            Refusal::Held,
            Refusal::Renounced,
            Refusal::NotAVoter,
        ]),
    ]
}

fn from_voter() -> impl Strategy<Value = FromVoter> {
    let sequences = || any::<u64>().prop_map(Sequence);
    prop_oneof![
        (epochs(), writers(), sequences(), lists(), any::<bool>()).prop_map(
            |(epoch, writer, sequence, lapsed, undecided)| FromVoter::Renewed {
                epoch,
                writer,
                sequence,
                lapsed,
                undecided
            }
        ),
        (writers(), sequences(), refusals()).prop_map(|(writer, sequence, refusal)| {
            FromVoter::Refused { writer, sequence, refusal }
        }),
        (writers(), sequences(), prop::option::of(records()), lists(), any::<bool>()).prop_map(
            |(writer, sequence, newer, lapsed, undecided)| FromVoter::Heard {
                writer,
                sequence,
                newer,
                lapsed,
                undecided
            }
        ),
        (epochs(), lists()).prop_map(|(epoch, writers)| FromVoter::Lapsed { epoch, writers }),
        (epochs(), ballots(), prop::option::of((ballots(), records())))
            .prop_map(|(epoch, ballot, accepted)| FromVoter::Promised { epoch, ballot, accepted }),
        (epochs(), ballots()).prop_map(|(epoch, ballot)| FromVoter::Accepted { epoch, ballot }),
        (epochs(), ballots(), 0..1_200_000_000_000_u64).prop_map(|(epoch, ballot, nanos)| {
            FromVoter::Guarded { epoch, ballot, remaining: Duration::from_nanos(nanos) }
        }),
        (epochs(), ballots()).prop_map(|(epoch, promised)| FromVoter::Outbid { epoch, promised }),
        records().prop_map(|record| FromVoter::Decided { record }),
        epochs().prop_map(|epoch| FromVoter::Missing { epoch }),
    ]
}

fn to_peer() -> impl Strategy<Value = ToPeer> {
    prop_oneof![
        (ballots(), epochs()).prop_map(|(ballot, epoch)| ToPeer::AskReady { ballot, epoch }),
        (ballots(), epochs(), writers()).prop_map(|(ballot, epoch, writer)| ToPeer::Ready {
            ballot,
            epoch,
            writer
        }),
        (ballots(), records()).prop_map(|(ballot, record)| ToPeer::AskRelease { ballot, record }),
        (ballots(), epochs(), writers()).prop_map(|(ballot, epoch, writer)| ToPeer::Released {
            ballot,
            epoch,
            writer
        }),
        records().prop_map(|record| ToPeer::Install { record }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_is_read_as_it_was_written(record in records()) {
        let message = over_the_wire(&codec().record_out(&record));
        let again = codec().record(&message).unwrap();
        prop_assert_eq!(again.ring().map(|it| it.digest()), record.ring().map(|it| it.digest()));
        prop_assert_eq!(codec().record_out(&again), message);
        prop_assert_eq!(again, record);
    }

    #[test]
    fn what_a_member_says_to_a_voter_is_read_as_it_was_written(message in to_voter()) {
        let sent = proto::AttendRequest { message: Some(codec().to_voter_out(&message)) };
        prop_assert_eq!(codec().to_voter(over_the_wire(&sent).message.unwrap()), Ok(message));
    }

    #[test]
    fn what_a_voter_says_to_a_member_is_read_as_it_was_written(message in from_voter()) {
        let sent = proto::AttendResponse { clock_ns: 0, message: Some(codec().from_voter_out(&message)) };
        prop_assert_eq!(codec().from_voter(over_the_wire(&sent).message.unwrap()), Ok(message));
    }

    #[test]
    fn what_a_member_says_to_another_is_read_as_it_was_written(message in to_peer()) {
        let sent = codec().to_peer_out(&message);
        prop_assert_eq!(codec().to_peer(over_the_wire(&sent)), Ok(message));
    }

    #[test]
    fn a_change_is_read_as_it_was_written(asked in changes()) {
        let record = both();
        let operators = !matches!(asked, Change::Nothing | Change::Fail(_) | Change::Join { .. });
        let sent = change_out(&asked);
        prop_assert_eq!(sent.is_some(), operators);
        let Some(sent) = sent else { return Ok(()) };
        let read = change(&over_the_wire(&sent), &record);
        if matches!(&asked, Change::Lead { group, .. } if record.group(group).is_none()) {
            prop_assert_eq!(read.unwrap_err().code(), "unknown_group");
        } else {
            prop_assert_eq!(read, Ok(asked));
        }
    }

    #[test]
    fn no_bytes_are_too_bad_to_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_anything(&bytes);
    }

    #[test]
    fn no_change_to_a_message_is_too_bad_to_be_refused(
        message in to_voter(),
        answer in from_voter(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let sent = proto::AttendRequest { message: Some(codec().to_voter_out(&message)) };
        let answered = proto::AttendResponse { clock_ns: 0, message: Some(codec().from_voter_out(&answer)) };
        for mut bytes in [sent.encode_to_vec(), answered.encode_to_vec()] {
            for (place, byte) in &edits {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            read_anything(&bytes);
        }
    }
}

#[test]
fn a_record_is_read_once_and_only_the_last_few_are_kept() {
    let mut codec = codec();
    let mut record = first();
    for incarnation in 0..10 {
        record = join(&record, "a", incarnation);
        let message = codec.record_out(&record);
        assert_eq!(codec.record_out(&record), message);
        assert_eq!(codec.record(&message), Ok(record.clone()));
        assert_eq!(codec.recent().iter().filter(|(_, it)| *it == record).count(), 1);
        assert!(codec.recent().len() <= RECENT_MAX);
    }
    assert_eq!(codec.recent().len(), RECENT_MAX);
}

/// What becomes of a record in whose message `change` changed something.
fn refused(change: impl FnOnce(&mut proto::Record)) -> WireError {
    let mut message = codec().record_out(&both());
    change(&mut message);
    codec().record(&message).unwrap_err()
}

fn view(message: &mut proto::Record) -> &mut proto::View {
    message.view.as_mut().unwrap()
}

fn terms(message: &mut proto::Record) -> &mut proto::SlotTerms {
    message.slot_terms.as_mut().unwrap()
}

#[test]
fn a_record_lacks_nothing() {
    let lacks = |field, change: fn(&mut proto::Record)| {
        assert_eq!(refused(change), WireError::Missing { field });
    };
    lacks("lease", |it| it.lease = None);
    lacks("view", |it| it.view = None);
    lacks("slot_terms", |it| it.slot_terms = None);
    lacks("pods.state", |it| view(it).pods[0].state = 0);
    lacks("pods.state", |it| view(it).pods[0].state = 99);
}

#[test]
fn what_no_record_may_hold_is_refused_with_the_reason() {
    let code = |change: fn(&mut proto::Record)| refused(change).code();
    assert_eq!(code(|it| it.cluster = "desk-8".to_owned()), "other_cluster");
    assert_eq!(code(|it| it.table ^= 1), "other_table");
    assert_eq!(code(|it| it.lease.as_mut().unwrap().ttl_ns = 1), "lease_unsafe");
    assert_eq!(code(|it| view(it).pods[0].weight = Some(f64::NAN)), "weight_not_finite");
    assert_eq!(code(|it| view(it).pods[1].id = "a".to_owned()), "duplicate_pod");
    assert_eq!(code(|it| view(it).pods.clear()), "empty_view");
    assert_eq!(code(|it| it.voters.truncate(2)), "voters");
    assert_eq!(code(|it| it.writers[0].pod = "x".to_owned()), "record_malformed");
    let text = |change: fn(&mut proto::Record)| {
        let error = refused(change);
        assert_eq!(error.code(), "message_malformed");
        error.to_string()
    };
    let check = |change: fn(&mut proto::Record), said: &str| assert_eq!(text(change), said);
    check(|it| it.cluster_id.truncate(15), "cluster_id has 15 bytes: expected 16");
    check(|it| it.voters[1].id.push(0), "voters.id has 17 bytes: expected 16");
    check(|it| it.voters[1].address.clear(), "voters.address has 0 bytes: expected 1 to 255");
    check(|it| it.voters.extend(it.voters.clone()), "voters has 6 entries: expected at most 5");
    check(|it| it.writers.push(it.writers[0].clone()), "writers has \"a\" twice");
    check(|it| view(it).epoch = 0, "view.epoch is 0: expected 1 or more");
    check(|it| view(it).slots = 1 << 21, "view.slots is 2097152: expected at most 1048576");
    check(
        |it| view(it).pods[0].zone = Some("z".repeat(256)),
        "pods.zone has 256 bytes: expected at most 255",
    );
    check(
        |it| terms(it).terms.reverse(),
        "slot_terms.terms is 3: expected ascending from 1 or more",
    );
    check(
        |it| (terms(it).terms, terms(it).indices) = (vec![1, 2, 3], vec![0, 0xc0]),
        "slot_terms.indices is 3: expected less than there are terms",
    );
    check(
        |it| terms(it).indices.clear(),
        "slot_terms.indices has 0 bytes: expected the bits of one index for each slot",
    );
}

#[test]
fn lists_and_names_have_their_bounds() {
    let crowd = refused(|it| view(it).pods = vec![proto::Pod::default(); View::PODS_MAX + 1]);
    let (field, count, count_max) = ("view.pods", 65_536, 65_535);
    assert_eq!(crowd, WireError::TooMany { field, count, count_max });
    let groups = refused(|it| it.groups = vec![proto::Group::default(); GROUPS_MAX + 1]);
    let (field, count, count_max) = ("groups", 4_097, 4_096);
    assert_eq!(groups, WireError::TooMany { field, count, count_max });
    let many = refused(|it| it.groups[0].candidates = vec!["a".to_owned(); CANDIDATES_MAX + 1]);
    let (field, count, count_max) = ("groups.candidates", 65_536, 65_535);
    assert_eq!(many, WireError::TooMany { field, count, count_max });
    let stop = vec![proto::Writer::default(); View::PODS_MAX + 1];
    let (epoch, ballot) = (1, Some(proto::Ballot::default()));
    let prepare = proto::Prepare { epoch, ballot, stop };
    let refused = codec().to_voter(proto::attend_request::Message::Prepare(prepare));
    assert!(matches!(refused, Err(WireError::TooMany { field: "prepare.stop", .. })));
}

#[test]
fn an_index_takes_as_many_bits_as_the_terms_need() {
    for (slots, different, bits) in [
        (2_u32, 1_u64, 1),
        (1 << 9, 2, 1),
        (1 << 9, 3, 2),
        (1 << 9, 4, 2),
        (1 << 9, 5, 4),
        (1 << 9, 16, 4),
        (1 << 9, 17, 8),
        (1 << 9, 256, 8),
        (1 << 9, 257, 16),
        (1 << 17, 65_536, 16),
        (1 << 17, 65_537, 24),
    ] {
        let record =
            with_terms(slots, (0..u64::from(slots)).map(|it| 1 + it % different).collect());
        let message = codec().record_out(&record);
        let terms = message.slot_terms.as_ref().unwrap();
        assert_eq!(terms.terms.len() as u64, different);
        assert_eq!(terms.indices.len(), (slots as usize * bits).div_ceil(8));
        assert_eq!(codec().record(&over_the_wire(&message)), Ok(record));
    }
}

/// A record with these terms; no pod of it may own slots, so that it is quick to make.
fn with_terms(slots: u32, terms: Vec<u64>) -> Record {
    let parameters = hashroute_core::Parameters::new(slots.into(), 0.0, 0).unwrap();
    let latest = terms.iter().copied().max().unwrap();
    let view = View::new(Epoch::new(latest), parameters, first().view().pods().to_vec()).unwrap();
    let fields = RecordFields { view, terms, ..first().fields() };
    Record::restore(fields, None).unwrap()
}

#[test]
fn the_largest_message_fits() {
    let text = || "x".repeat(NAME_BYTES_MAX);
    let addresses = proto::Addresses { grpc: Some(text()), zmq: Some(text()) };
    let pod = proto::Pod {
        id: text(),
        weight: Some(1.0),
        zone: Some(text()),
        state: 1,
        addresses: Some(addresses),
    };
    let writer = proto::Writer { pod: text(), incarnation: u64::MAX };
    let group =
        proto::Group { name: text(), leader: Some(text()), term: u64::MAX, ..Default::default() };
    // What one entry adds to a list, its tag and its length before it.
    let entry = |bytes: usize| 1 + prost::length_delimiter_len(bytes) + bytes;
    let pods = View::PODS_MAX * entry(pod.encoded_len());
    let writers = View::PODS_MAX * entry(writer.encoded_len());
    let candidates = CANDIDATES_MAX * entry(NAME_BYTES_MAX);
    let groups = GROUPS_MAX * (entry(group.encoded_len()) + 8);
    let slots = SLOTS_MAX as usize;
    let terms = (10 * slots + 3 * slots).max(10 * 65_536 + 2 * slots);
    // The list of writers comes with the record once more: whose lease has run out, or who released.
    let most = pods + 2 * writers + groups + candidates + terms + 100_000;
    assert!(most <= MESSAGE_BYTES_MAX, "{most}");
}

#[test]
fn what_is_no_part_of_the_protocol_is_refused() {
    use proto::attend_request::Message as Request;
    use proto::attend_response::Message as Response;
    let hello = codec().to_voter(Request::Hello(proto::Hello::default()));
    assert_eq!(hello, Err(WireError::OtherKind { kind: "hello" }));
    let welcome = codec().from_voter(Response::Welcome(proto::Welcome::default()));
    assert_eq!(welcome, Err(WireError::OtherKind { kind: "welcome" }));
    let empty = codec().to_peer(proto::PeerMessage { message: None });
    assert_eq!(empty, Err(WireError::Missing { field: "peer_message" }));
}

#[test]
fn half_of_what_belongs_together_is_refused() {
    use proto::attend_response::Message as Response;
    let ballot = Some(proto::Ballot::default());
    let accepted = Some(codec().record_out(&both()));
    let promised = proto::Promised { epoch: 1, ballot, accepted_in: None, accepted };
    let refused = codec().from_voter(Response::Promised(promised.clone()));
    assert_eq!(refused, Err(WireError::Missing { field: "accepted_in" }));
    let promised = proto::Promised { accepted_in: ballot, accepted: None, ..promised };
    let refused = codec().from_voter(Response::Promised(promised));
    assert_eq!(refused, Err(WireError::Missing { field: "accepted" }));
    let writer = Some(proto::Writer { pod: "a".to_owned(), incarnation: 1 });
    let behind = proto::Refused { writer, refusal: 1, ..Default::default() };
    let refused = codec().from_voter(Response::Refused(behind.clone()));
    assert_eq!(refused, Err(WireError::Missing { field: "refused.record" }));
    let unknown = proto::Refused { refusal: 77, ..behind };
    let refused = codec().from_voter(Response::Refused(unknown));
    assert_eq!(refused, Err(WireError::Missing { field: "refused.refusal" }));
    let (epoch, remaining_ns) = (1, u64::MAX);
    let guarded =
        codec().from_voter(Response::Guarded(proto::Guarded { epoch, ballot, remaining_ns }));
    assert!(matches!(guarded, Err(WireError::Number { .. })));
}

#[test]
fn a_cluster_is_its_name_and_its_first_record() {
    let message = codec().record_out(&first());
    let id = cluster_id(CLUSTER, &message);
    let unnamed = proto::Record { cluster_id: Vec::new(), ..message.clone() };
    assert_eq!(cluster_id(CLUSTER, &unnamed), id, "its own id does not enter it");
    assert_ne!(cluster_id("desk-8", &message), id);
    let mut other = message;
    other.voters[0].id[15] ^= 1;
    assert_ne!(cluster_id(CLUSTER, &other), id);
}

fn step_down(record: &Record) -> Result<Change, WireError> {
    let lead = proto::LeadGroup { group: "gateway".to_owned(), leader: String::new() };
    let asked = proto::record_change::Change::Lead(lead);
    change(&proto::RecordChange { change: Some(asked) }, record)
}

fn lead(name: &str) -> Result<Change, WireError> {
    Ok(Change::Lead { group: std::sync::Arc::from("gateway"), leader: pod(name) })
}

#[test]
fn who_steps_down_makes_room_for_the_next_candidate_that_can() {
    assert_eq!(step_down(&both()), lead("b"));
    let moved = both().next(&lead("b").unwrap()).unwrap();
    assert_eq!(step_down(&moved), lead("a"), "round to the first again");
    let alone = moved.next(&Change::Drain(pod("a"))).unwrap();
    assert_eq!(step_down(&alone).unwrap_err().code(), "no_other_candidate");
    assert_eq!(step_down(&join(&alone, "a", 2)), lead("a"));
    let nobody = step_down(&first()).unwrap_err();
    assert_eq!(nobody.code(), "no_other_candidate");
}

#[test]
fn the_next_candidate_is_the_one_after_the_leader_and_not_the_best() {
    let three = join(&both(), "c", 1);
    let candidates = ["a", "b", "c"].map(pod).to_vec();
    let name: std::sync::Arc<str> = std::sync::Arc::from("three");
    let record = three.next(&Change::AddGroup { name: name.clone(), candidates }).unwrap();
    let middle = record.next(&Change::Lead { group: name, leader: pod("b") }).unwrap();
    let lead = proto::LeadGroup { group: "three".to_owned(), leader: String::new() };
    let asked = proto::record_change::Change::Lead(lead);
    let read = change(&proto::RecordChange { change: Some(asked) }, &middle);
    assert!(matches!(read, Ok(Change::Lead { leader, .. }) if leader == pod("c")));
}

#[test]
fn changes_that_would_make_a_record_too_large_are_refused() {
    let add = |candidates: usize| {
        let candidates = vec!["a".to_owned(); candidates];
        let add = proto::AddGroup { name: "other".to_owned(), candidates };
        let asked = proto::record_change::Change::AddGroup(add);
        change(&proto::RecordChange { change: Some(asked) }, &both())
    };
    assert!(add(CANDIDATES_MAX - 2).is_ok());
    assert!(matches!(add(CANDIDATES_MAX - 1), Err(WireError::TooMany { .. })));
    let replace = proto::ReplaceVoter { old_id: voter_id_out(VoterId(1)), new: None };
    let asked = proto::record_change::Change::ReplaceVoter(replace);
    let replaced = change(&proto::RecordChange { change: Some(asked) }, &both());
    assert_eq!(replaced, Err(WireError::Missing { field: "replace_voter.new" }));
}
