//! What must come after a sync of the disk comes after it, and never if it failed. The loop is
//! driven by hand, and its disk does what the test says.
use std::pin::Pin;
use std::sync::mpsc as threads;
use std::task::{Context, Poll, Waker};

use hashroute_coordination::{Ballot, Incarnation, Sequence, VoterState, Writer};
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tonic::Code;

use super::*;
use crate::disk::Stored;
use crate::disk_thread::{DiskThread, Keeps};
use crate::proto::attend_response::Message as Heard;
use crate::settings::{Engine, LeaseSettings, Priority};
use crate::testing::{CLUSTER, first, join, pod};

/// A loop with a voter, and a disk whose saves end when they are told to.
struct Trial {
    shell: Shell,
    queue: mpsc::Receiver<Event>,
    saves: threads::Receiver<VoterState>,
    ends: threads::Sender<io::Result<()>>,
    runtime: Runtime,
}

struct Told {
    saves: threads::Sender<VoterState>,
    ends: threads::Receiver<io::Result<()>>,
}

impl Keeps for Told {
    fn save(&mut self, state: &VoterState) -> io::Result<()> {
        self.saves.send(state.clone()).unwrap();
        self.ends.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn settings() -> NodeSettings {
    NodeSettings {
        cluster: CLUSTER.into(),
        engine: Engine::Embedded,
        voters: Vec::new(),
        listen: None,
        advertise: None,
        data: None,
        pod: None,
        view: first().view().clone(),
        lease: LeaseSettings {
            ttl_us: 300_000,
            renewal_interval_us: 50_000,
            drift_ppm: 1_000,
            margin_us: 10_000,
        },
        tls: None,
        priority: Priority::Ordinary,
        stale_after: Duration::from_secs(1),
        stall_check: Duration::ZERO,
        force: true,
    }
}

impl Trial {
    fn new(stored: Stored) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (events, queue) = mpsc::channel(16);
        let ((saved, saves), (ends, ended)) = (threads::channel(), threads::channel());
        let told = Told { saves: saved, ends: ended };
        let disk = DiskThread::start(told, Priority::Ordinary, events.clone()).unwrap();
        let settings = settings();
        let start = Start {
            address: "voter-1:9010".into(),
            shared: Arc::new(Shared::new(settings.stale_after)),
            events,
            voter: Some(VoterPart::new(stored, disk)),
            dice: Dice::new().unwrap(),
            ready: threads::sync_channel(1).0,
            priority: Ok(false),
            settings,
        };
        let shell = runtime.block_on(async { Shell::new(start) });
        Self { shell, queue, saves, ends, runtime }
    }

    /// Voter 1 of a cluster whose writer is pod `a`.
    fn known() -> Self {
        let (id, installed) = (VoterId(1), join(&first(), "a", 1));
        let state = VoterState::first(id, installed);
        Self::new(Stored::Known(Box::new(state)))
    }

    fn attend(&mut self) -> Attending {
        let (reply, mut answer) = oneshot::channel();
        let hello = proto::Hello {
            version: 1,
            cluster: CLUSTER.into(),
            cluster_id: Vec::new(),
            voter_id: Vec::new(),
            writer: Some(proto::Writer { pod: "a".into(), incarnation: 1 }),
        };
        self.tell(Event::Hello { hello, reply });
        answer.try_recv().unwrap().unwrap()
    }

    fn tell(&mut self, event: Event) {
        let _context = self.runtime.enter();
        self.shell.handle(event);
    }

    fn say(&mut self, by: &Attending, message: &ToVoter) {
        let message = Box::new(self.shell.codec.to_voter_out(message));
        self.tell(Event::Attendee { number: by.number, message });
    }

    /// Asks for a promise, which is to be durable before it is given.
    fn prepare(&mut self, by: &Attending, round: u64) {
        let epoch = first().epoch().next().unwrap().next().unwrap();
        let ballot = Ballot { round, proposer: 7 };
        self.say(by, &ToVoter::Prepare { epoch, ballot, stop: Vec::new() });
    }

    /// Asks for the vote for `record`, for which these have stopped.
    fn accept(&mut self, by: &Attending, record: &Record, released: &[Writer]) {
        let (ballot, released) = (Ballot { round: 1, proposer: 7 }, released.to_vec());
        self.say(by, &ToVoter::Accept { ballot, record: record.clone(), released });
    }

    /// The disk ends the save under way, and the loop hears of it.
    fn end_save(&mut self, result: io::Result<()>) {
        self.ends.send(result).unwrap();
        let event = self.queue.blocking_recv().unwrap();
        assert!(matches!(event, Event::Synced { .. }));
        self.tell(event);
    }
}

/// What the voter has said to the member until now, in a word each, without beats.
fn heard(attending: &mut Attending) -> Vec<String> {
    let mut context = Context::from_waker(Waker::noop());
    let mut heard = Vec::new();
    while let Poll::Ready(Some(said)) = Pin::new(&mut attending.answers).poll_next(&mut context) {
        match said.map(|said| said.message) {
            Ok(Some(Heard::Welcome(it))) => {
                heard.push(if it.record.is_some() { "welcome" } else { "stranger" }.into());
            }
            Ok(Some(Heard::Promised(it))) => {
                heard.push(format!("promised {}", it.ballot.unwrap().round));
            }
            Ok(Some(Heard::Heard(_))) => heard.push("heard".into()),
            Ok(Some(Heard::Guarded(_))) => heard.push("guarded".into()),
            Ok(Some(Heard::Accepted(_))) => heard.push("accepted".into()),
            Ok(Some(Heard::Coming(it))) => {
                heard.push(format!("coming {}", it.view.unwrap().epoch));
            }
            Ok(Some(other)) => heard.push(format!("{other:?}")),
            Ok(None) => {}
            Err(status) => heard.push(format!("{:?}", status.code())),
        }
    }
    heard
}

fn probe(trial: &mut Trial, by: &Attending) {
    let (epoch, sequence) = (first().epoch(), Sequence(1));
    trial.say(by, &ToVoter::Probe { epoch, writer: writer(), sequence });
}

fn writer() -> Writer {
    Writer { pod: pod("a"), incarnation: Incarnation(1) }
}

#[test]
fn a_promise_is_said_when_it_is_durable_and_what_needs_no_disk_does_not_wait() {
    let mut trial = Trial::known();
    let mut member = trial.attend();
    assert_eq!(heard(&mut member), ["welcome"]);
    trial.prepare(&member, 1);
    assert_eq!(trial.saves.recv().unwrap().promised, Some(Ballot { round: 1, proposer: 7 }));
    assert_eq!(heard(&mut member), Vec::<String>::new());
    probe(&mut trial, &member);
    assert_eq!(heard(&mut member), ["heard"]);
    trial.end_save(Ok(()));
    assert_eq!(heard(&mut member), ["promised 1"]);
}

#[test]
fn a_vote_that_waits_for_a_writer_is_foretold_and_waits_for_the_disk_only_once() {
    let mut trial = Trial::known();
    let mut member = trial.attend();
    // Half of what `a` owns goes to `b`, and the voter does not know yet how long `a` may write.
    let next = join(&join(&first(), "a", 1), "b", 1);
    trial.accept(&member, &next, &[]);
    assert_eq!(trial.saves.recv().unwrap().tentative.unwrap().1, next);
    assert_eq!(heard(&mut member), ["welcome", "coming 3"]);
    trial.accept(&member, &next, &[writer()]);
    assert_eq!(heard(&mut member), Vec::<String>::new(), "the vote is not durable yet");
    trial.end_save(Ok(()));
    assert_eq!(heard(&mut member), ["guarded", "accepted"]);
    trial.accept(&member, &next, &[writer()]);
    assert_eq!(heard(&mut member), ["accepted"]);
    assert!(trial.saves.try_recv().is_err(), "nothing is written a second time");
}

#[test]
fn promises_that_waited_for_one_sync_are_said_in_order() {
    let mut trial = Trial::known();
    let mut member = trial.attend();
    trial.prepare(&member, 1);
    assert_eq!(trial.saves.recv().unwrap().promised.unwrap().round, 1);
    trial.prepare(&member, 2);
    trial.prepare(&member, 3);
    assert_eq!(heard(&mut member), ["welcome"]);
    trial.end_save(Ok(()));
    assert_eq!(heard(&mut member), ["promised 1"], "the others are not durable yet");
    // The disk keeps only the last of those that came while it was busy: it stands for both.
    assert_eq!(trial.saves.recv().unwrap().promised.unwrap().round, 3);
    trial.end_save(Ok(()));
    assert_eq!(heard(&mut member), ["promised 2", "promised 3"]);
}

#[test]
fn a_voter_whose_disk_failed_says_nothing_any_more() {
    let mut trial = Trial::known();
    let mut member = trial.attend();
    trial.prepare(&member, 1);
    trial.prepare(&member, 2);
    trial.end_save(Err(io::Error::other("no more")));
    assert_eq!(heard(&mut member), ["Unavailable"], "what waited is never said");
    let (reply, mut answer) = oneshot::channel();
    let hello = proto::Hello { version: 1, cluster: CLUSTER.into(), ..Default::default() };
    trial.tell(Event::Hello { hello, reply });
    let refused = answer.try_recv().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("no more"), "{refused:?}");
    assert_eq!(trial.shell.voter_record(), None);
    let warnings = trial.shell.figures().snapshot().warnings;
    assert!(warnings.iter().any(|it| it.contains("repair the disk")), "{warnings:?}");
}

#[test]
fn a_new_voter_votes_when_its_first_record_is_durable() {
    let mut trial = Trial::new(Stored::Newcomer(VoterId(1)));
    let mut member = trial.attend();
    assert_eq!(heard(&mut member), ["stranger"]);
    trial.say(&member, &ToVoter::Install { record: first() });
    assert_eq!(trial.saves.recv().unwrap().installed, first());
    assert_eq!((trial.shell.voter_record(), heard(&mut member)), (None, Vec::new()));
    trial.end_save(Ok(()));
    assert_eq!(
        (trial.shell.voter_record(), heard(&mut member)),
        (Some(first()), vec!["welcome".into()])
    );
    assert_eq!(trial.shell.shared.record(), Some(first()));
}

#[test]
fn a_record_that_does_not_name_a_new_voter_is_not_its_first() {
    let mut trial = Trial::new(Stored::Newcomer(VoterId(9)));
    let mut member = trial.attend();
    trial.say(&member, &ToVoter::Install { record: first() });
    assert!(trial.shell.voter.as_ref().unwrap().is_settled(), "nothing is kept");
    probe(&mut trial, &member);
    let answers = heard(&mut member);
    assert!(answers[1].contains("Refused"), "it asks for a record that names it: {answers:?}");
}
