//! Wrong protocols, on purpose: each is a rule left out, and the simulator must catch it.
//!
//! Without the feature `planted` the switch is an empty type, and every question is answered "no"
//! at compile time.

/// Writes the enumeration, the list of all of it and the sentence for each from one table.
macro_rules! bugs {
    ($($name:ident: $what:literal,)+) => {
        /// A rule that is left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $what] $name,)+
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What is wrong, as a sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)+
                }
            }
        }
    };
}

bugs! {
    // The voter.
    NoGuardAtVote: "A voter votes while a writer that loses something is guarded.",
    NoQuietTime: "A voter votes right after a restart, as if it had granted nothing before.",
    NoQuietTimeForNewVoter: "A voter that has just become one votes as if nobody held a lease.",
    GuardsDroppedAtInstall: "A voter forgets its guards when it installs the next record.",
    GrantAfterAccept: "A voter grants to a writer that loses something in what it accepted.",
    GrantAcrossVoters: "A voter goes on granting after it accepted other voters.",
    PromiseUnchecked: "A voter does not compare ballots with its promise.",
    WrongVotersMajority: "The voters of the record that is wished for decide on it.",
    TentativeForgotten: "A voter that restarts forgets what it had written down to vote for.",
    OldEpochGranted: "A voter grants renewals by an older record than its own.",
    RestartTakesOver: "A new process of a pod takes over at once, as if the one before had to be dead.",
    // The holder of a lease.
    LeaseFromAck: "A member counts its lease from when the grant arrived.",
    AckExtendsNewest: "A grant of an old renewal extends the lease from the newest.",
    QuorumOfOne: "One voter's grant makes a lease.",
    NoDriftMargin: "The member's lease is as long as the voter's guard.",
    RenounceKeepsAcks: "Grants counted before a renunciation still make a lease after it.",
    AckRevivesRenounced: "A grant that arrives late revives a renounced lease.",
    NoProbe: "A member that hears nothing goes on renewing.",
    GrantOfOther: "A member counts what a voter granted to another process of its pod.",
    // The guard at the pod.
    TermUnchecked: "The guard does not compare terms.",
    OwnerUnchecked: "The guard does not look up who owns the resource.",
    LeaseUnchecked: "The guard does not look at the lease.",
    ValidityCached: "The guard reads the clock when the member wakes up, not when a write arrives.",
    RouterTrusted: "The guard takes the router's word for the term of a resource.",
    ReleaseIgnored: "The guard admits what was released.",
    ReleaseTooEarly: "A release is said while writes admitted before are still under way.",
    ReleaseForgotten: "A member writes again what it released, once another record is proposed.",
    // The proposer and the record.
    ReleaseOfOtherTry: "A release for one record is counted for another.",
    AcceptedIgnored: "A proposer ignores what was accepted before.",
    ChosenByOne: "One acceptance makes a record chosen.",
    TermReused: "The next process of a pod goes on under the term of the one before.",
    ChangePresumed: "A change that a member believes to be made already is not put to the voters.",
    TwoVotersAtOnce: "Two voters are replaced at once.",
    UnheardVotersCounted: "Voters are replaced although too few of those that stay were heard.",
    UndecidedIgnored: "Nobody finds out what became of a vote whose proposer is gone.",
    // The shell around them: left out by the simulator, not by the state machines.
    VoteForgotten: "A voter's promise and vote are gone after a restart.",
    VoteBeforeDisk: "A voter's answer leaves before its state is durable.",
    LostDiskVotes: "A voter whose disk was lost votes under its old name.",
    TornStateRead: "A state whose writing a crash cut short is read as if it were whole.",
    IncarnationReused: "A process that was restarted goes by the incarnation of the one before.",
    ClockReadEarly: "A voter dates a renewal by a clock that it read before the renewal arrived.",
    WildClock: "A clock drifts by far more than the bound.",
    StoreUnfenced: "The store accepts terms in any order.",
    TermOfEffect: "An effect carries the term of when it is sent, not of its admission.",
    // The member whose record lies in a register.
    RecordUnchecked: "A record is committed whatever the one before it is.",
    RenewalUnchecked: "A renewal is committed although the record is another one by then.",
    BeatUnchecked: "A record takes from a silent writer without the condition on its beat.",
    HalfTheWait: "A writer counts as silent after half the wait.",
    UnansweredCounted: "A renewal that is not answered counts as committed.",
    ProbeExtends: "A probe extends the lease, although it leaves no beat.",
    IntentForced: "An intent becomes the record although one who loses by it has not stopped.",
    IntentUnchecked: "An intent that was withdrawn still becomes the record.",
    ReleaseOfOtherIntent: "A release for one intent is counted for another.",
    ResumedEarly: "A writer goes on when its intent has stood for a lease, withdrawn or not.",
    EarlierWaitCounts: "The end of the wait for an earlier intent is taken for that of the next one.",
    MadeByAnother: "A change counts as made when a record is seen that looks like it.",
    RemovedComesBack: "The process of a pod that was removed joins again.",
    DueForEver: "What is due and cannot be done yet stays due at once.",
    // Where voters grant the leases of such members.
    IntentUnread: "A voter that starts again does not take the intent in the store for its vote.",
    VotesOfOtherIntent: "Votes for one intent are counted for another.",
    VotersUnasked: "Voters are replaced without the votes of a majority of those before.",
}

impl Bug {
    /// Whether leaving the rule out stops writes for good, instead of letting wrong ones through or
    /// beside it.
    #[must_use]
    pub fn stops_progress(self) -> bool {
        matches!(
            self,
            Self::NoProbe
                | Self::OldEpochGranted
                | Self::UnheardVotersCounted
                | Self::UndecidedIgnored
        )
    }

    /// Whether it is a rule of the engine whose voters agree on the record.
    #[must_use]
    pub fn is_of_voters(self) -> bool {
        self < Self::RecordUnchecked
    }

    /// Whether it is a rule of the engine whose record lies in a register.
    #[must_use]
    pub fn is_of_register(self) -> bool {
        !self.is_of_voters()
            || matches!(
                self,
                Self::NoGuardAtVote
                    | Self::NoQuietTime
                    | Self::NoQuietTimeForNewVoter
                    | Self::GuardsDroppedAtInstall
                    | Self::GrantAfterAccept
                    | Self::GrantAcrossVoters
                    | Self::RestartTakesOver
                    | Self::AckExtendsNewest
                    | Self::QuorumOfOne
                    | Self::NoDriftMargin
                    | Self::ChosenByOne
                    | Self::TwoVotersAtOnce
                    | Self::LeaseFromAck
                    | Self::AckRevivesRenounced
                    | Self::NoProbe
                    | Self::TermUnchecked
                    | Self::OwnerUnchecked
                    | Self::LeaseUnchecked
                    | Self::RouterTrusted
                    | Self::ReleaseIgnored
                    | Self::ReleaseTooEarly
                    | Self::TermReused
                    | Self::IncarnationReused
                    | Self::WildClock
                    | Self::StoreUnfenced
                    | Self::TermOfEffect
            )
    }
}

/// Which rule is left out.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Planted(pub Option<Bug>);

/// Which rule is left out: none in this build.
#[cfg(not(feature = "planted"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Planted(());

impl Planted {
    /// Whether the rule is left out.
    #[inline]
    #[must_use]
    pub fn has(self, bug: Bug) -> bool {
        #[cfg(feature = "planted")]
        return self.0 == Some(bug);
        #[cfg(not(feature = "planted"))]
        {
            let _ = bug;
            false
        }
    }
}
