//! The member of this process: what it does is carried out here.
use std::time::Duration;

use hashroute_coordination::{
    FromVoter, Incarnation, Member, MemberAction, Planted, Record, Refusal, Sequence, ToPeer,
    ToVoter, VoterId, Writer,
};
use hashroute_core::{Pod, PodId};

use crate::calls::Calls;
use crate::clock;
use crate::dice::Dice;
use crate::figures::MemberFigures;
use crate::proto;
use crate::proto::attend_request;
use crate::stalls;
use crate::window::Window;

use super::{Mail, Shell};

/// A pod's process. Its member begins when a record is known and the stalls were checked.
#[derive(Debug)]
pub(super) struct MemberPart {
    pub(super) pod: Pod,
    pub(super) incarnation: Incarnation,
    pub(super) check_ends: Duration,
    /// Whether the stalls were checked.
    pub(super) may_join: bool,
    /// Whether a record has named this process.
    was_named: bool,
    /// Whether it takes no part any more: the pod was removed, or has another process.
    pub(super) has_left: bool,
    /// What keeps it from joining, as a sentence.
    pub(super) trouble: Option<String>,
    pub(super) member: Option<Member>,
    calls: Calls,
    lease_since: Option<Duration>,
    margins: Window,
    renewals: Window,
    elections: u64,
}

impl MemberPart {
    pub(super) fn new(pod: Pod, dice: &mut Dice, check_ends: Duration) -> Self {
        Self {
            pod,
            incarnation: Incarnation(dice.word()),
            check_ends,
            may_join: false,
            was_named: false,
            has_left: false,
            trouble: None,
            member: None,
            calls: Calls::default(),
            lease_since: None,
            margins: Window::default(),
            renewals: Window::default(),
            elections: 0,
        }
    }

    pub(super) fn writer(&self) -> Writer {
        Writer { pod: self.pod.id.clone(), incarnation: self.incarnation }
    }

    /// When the call that this answers was sent.
    pub(super) fn sent(&self, answer: &FromVoter) -> Option<Duration> {
        self.calls.sent(&self.writer(), answer)
    }

    /// Notes what became of the lease. `end` is when it ended by what was known before.
    fn note_lease(&mut self, end: Option<Duration>, now: Duration) {
        let Some(member) = &self.member else { return };
        let after = member.lease().end();
        if after <= end {
            self.lease_since = self.lease_since.filter(|_| member.lease().is_valid(now));
            return;
        }
        match end.filter(|end| *end > now) {
            Some(end) => self.margins.push(end - now),
            None => self.lease_since = Some(now),
        }
        let window = member.record().parameters().holder_window();
        let sent = after.unwrap_or_default().saturating_sub(window);
        self.renewals.push(now.saturating_sub(sent));
    }
}

impl Shell {
    /// The pod of this process, as long as that takes part or may yet. Then another process of it
    /// may, and attends the voter of this one.
    pub(super) fn own_pod(&self) -> Option<&PodId> {
        self.member.as_ref().filter(|part| !part.has_left).map(|part| &part.pod.id)
    }

    pub(super) fn member_deadline(&self) -> Option<Duration> {
        let part = self.member.as_ref()?;
        let check_ends = (!part.may_join).then_some(part.check_ends);
        let deadline = part.member.as_ref().map(Member::deadline);
        check_ends.into_iter().chain(deadline).min()
    }

    pub(super) fn tick_member(&mut self, now: Duration) {
        let part = self.member.as_ref().and_then(|part| part.member.as_ref());
        if part.is_some_and(|member| now >= member.deadline()) {
            self.with_member(Member::tick);
        }
    }

    pub(super) fn member_hears_voter(&mut self, by: VoterId, message: FromVoter) {
        self.with_member(|member, now, dice| member.handle_voter(now, by, message, dice));
    }

    pub(super) fn member_hears_peer(&mut self, from: &PodId, message: ToPeer) {
        self.with_member(|member, now, dice| member.handle_peer(now, from, message, dice));
    }

    /// Lets the member do something by the clock read now, publishes what it is then to those that
    /// write, and only then carries out what it asks for.
    pub(super) fn with_member(
        &mut self,
        act: impl FnOnce(&mut Member, Duration, u64) -> Vec<MemberAction>,
    ) {
        let dice = self.dice.word();
        let Some(part) = &mut self.member else { return };
        let Some(member) = &mut part.member else { return };
        let (now, end) = (clock::now(), member.lease().end());
        let actions = act(member, now, dice);
        self.shared.gate.publish(member);
        let record = member.record().clone();
        part.note_lease(end, now);
        let installed = actions.iter().any(|it| matches!(it, MemberAction::Installed(_)));
        if installed {
            // What is to be sent may be for voters that were not there before.
            let tells = actions.iter().any(|it| {
                matches!(it, MemberAction::ToVoter(_, ToVoter::Install { record: it }) if *it == record)
            });
            part.elections += u64::from(tells);
            self.shared.publish(&record);
            self.links_follow_record(now);
        }
        for action in actions {
            self.carry_out_member(action, now);
        }
    }

    fn carry_out_member(&mut self, action: MemberAction, now: Duration) {
        let Some(part) = &mut self.member else { return };
        match action {
            MemberAction::ToVoter(to, message) => {
                part.calls.note(&message, now);
                if self.voter.as_ref().is_some_and(|voter| voter.id == to) {
                    self.mail.push_back(Mail::ToVoter(part.pod.id.clone(), message));
                } else {
                    self.links.say(to, self.codec.to_voter_out(&message));
                }
            }
            MemberAction::ToPeer(to, message) => {
                let content = self.codec.to_peer_out(&message);
                let from = part.pod.id.clone();
                let passed_on =
                    proto::ToPeer { pod: to.to_string(), message: Some(content.clone()) };
                self.links.say_to_all(&attend_request::Message::ToPeer(passed_on));
                if self.voter.is_some() {
                    self.attendees.say_from_peer(&from, &to, content);
                }
            }
            MemberAction::Installed(record) => {
                self.shared.gate.forget_releases();
                self.leave_if_superseded(&record);
            }
            MemberAction::Quiesce(record) => self.shared.gate.quiesce(&record),
            MemberAction::Made { change, epoch } => self.changes.made(&change, epoch, &self.links),
            MemberAction::Dropped { change, reason } => {
                self.changes.dropped(&change, reason, &self.links);
            }
        }
    }

    /// Writes that a release waited for have ended.
    pub(super) fn writes_ended(&mut self) {
        let quiesced = self.shared.gate.quiesced();
        self.mail.extend(quiesced.into_iter().map(Mail::Quiesced));
        self.deliver();
    }

    /// The process of a pod that was removed, or has another process by now, must not join again by
    /// itself. It follows the record from now on, as a router does.
    fn leave_if_superseded(&mut self, record: &Record) {
        let Some(part) = &mut self.member else { return };
        part.was_named |= record.names(&part.writer());
        let pod = &part.pod.id;
        let is_replaced = record.writers().get(pod).is_some_and(|it| *it != part.incarnation);
        let is_removed = record.view().index_of(pod.as_str()).is_none();
        // A process that was never named is on its way in.
        if part.has_left || !part.was_named || !(is_replaced || is_removed) {
            return;
        }
        part.has_left = true;
        part.trouble = Some(if is_removed {
            format!(
                "pod {pod} was removed from the cluster: this process takes no part any more; start \
                 it again to join"
            )
        } else {
            format!(
                "another process of pod {pod} has taken the place of this one, which takes no part \
                 any more: end it"
            )
        });
        self.with_member(|member, _, _| member.renounce());
        let reason = "the pod of this process was removed, or has another process";
        self.changes.end_all(reason, &self.links);
        self.links.attend_no_more();
        // What was said last is still on its way.
        self.links_again_at = Some(clock::now() + LAST_WORDS);
    }

    /// Begins to take part, by this record or a later one, if nothing is in the way.
    pub(super) fn join(&mut self, record: &Record) {
        let Some(part) = &mut self.member else { return };
        if !part.may_join || part.member.is_some() || part.has_left {
            return;
        }
        let (lease, worst) = (record.parameters(), self.stalls.worst());
        if !self.settings.force && !stalls::is_long_enough(lease, worst) {
            part.trouble = Some(format!(
                "this process does not join: {}",
                crate::error::StartError::stalls_too_long(lease, worst)
            ));
            return;
        }
        part.trouble = None;
        if lease != self.settings.lease.into() {
            part.trouble = Some(
                "quorum.lease is not what the cluster was founded with, which counts: write the same here"
                    .into(),
            );
        }
        let (pod, now) = (part.pod.clone(), clock::now());
        let member = Member::new(pod, part.incarnation, record.clone(), now, Planted::default());
        self.shared.gate.publish(&member);
        part.member = Some(member);
    }

    /// Lets the member go by a record that a voter has; returns whether it goes by records at all.
    pub(super) fn member_goes_by(&mut self, record: &Record) -> bool {
        let part = self.member.as_ref().filter(|part| !part.has_left);
        let Some((part, member)) = part.and_then(|part| Some((part, part.member.as_ref()?))) else {
            return false;
        };
        if member.record().epoch() < record.epoch()
            && let Some(entry) = record.voters().first()
        {
            let (writer, refusal) = (part.writer(), Refusal::Behind(record.clone()));
            let message = FromVoter::Refused { writer, sequence: Sequence(0), refusal };
            self.mail.push_back(Mail::FromVoter(entry.id, message));
        }
        true
    }

    pub(super) fn member_figures(&self, now: Duration) -> Option<MemberFigures> {
        let part = self.member.as_ref()?;
        let lease = part.member.as_ref().map(Member::lease);
        let end = lease.and_then(|lease| lease.end()).filter(|end| *end > now);
        Some(MemberFigures {
            writer: part.writer(),
            record: part.member.as_ref().map(|member| member.record().clone()),
            lease_left: end.map(|end| end - now),
            lease_since: end.and(part.lease_since).map(|since| now.saturating_sub(since)),
            margins: part.margins.clone(),
            renewals: part.renewals.clone(),
            elections: part.elections,
            gate: self.shared.gate.figures(),
        })
    }
}

/// For so long a process that was removed still says what it had to say.
const LAST_WORDS: Duration = Duration::from_millis(500);
