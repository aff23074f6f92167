//! Wrong protocols, on purpose: each is a rule left out, and the simulator must catch it.
//!
//! Without the feature `planted` the switch is an empty type, and every question is answered "no"
//! at compile time.

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 29] = [
        Self::NoGuardAtVote,
        Self::NoQuietTime,
        Self::NoQuietTimeForNewVoter,
        Self::GrantAfterAccept,
        Self::GrantAcrossVoters,
        Self::PromiseUnchecked,
        Self::RenounceForgotten,
        Self::StrangerVotes,
        Self::LeaseFromAck,
        Self::AckExtendsNewest,
        Self::QuorumOfOne,
        Self::NoDriftMargin,
        Self::RenounceKeepsAcks,
        Self::AckRevivesRenounced,
        Self::NoProbe,
        Self::TermUnchecked,
        Self::LeaseUnchecked,
        Self::ReleaseIgnored,
        Self::WrongVotersMajority,
        Self::AcceptedIgnored,
        Self::ChosenByOne,
        Self::OwnerUnchecked,
        Self::ValidityCached,
        Self::VoteForgotten,
        Self::LostDiskVotes,
        Self::IncarnationReused,
        Self::WildClock,
        Self::StoreUnfenced,
        Self::TermOfEffect,
    ];
}

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// A voter votes while a writer that loses something is guarded.
    NoGuardAtVote,
    /// A voter votes right after a restart, as if it had granted nothing.
    NoQuietTime,
    /// A voter that has just become one votes as if nobody had been granted anything.
    NoQuietTimeForNewVoter,
    /// A voter grants renewals to a writer that loses something in what it accepted.
    GrantAfterAccept,
    /// A voter goes on granting after it accepted other voters.
    GrantAcrossVoters,
    /// A voter does not compare ballots with its promise.
    PromiseUnchecked,
    /// A voter grants a renewal that was renounced before.
    RenounceForgotten,
    /// One that is no voter of the record votes.
    StrangerVotes,
    /// A member counts its lease from when the grant arrived.
    LeaseFromAck,
    /// A grant of an old renewal extends the lease from the newest.
    AckExtendsNewest,
    /// One voter's grant makes a lease.
    QuorumOfOne,
    /// The member's lease is as long as the voter's guard.
    NoDriftMargin,
    /// Grants counted before a renunciation still make a lease after it.
    RenounceKeepsAcks,
    /// A grant that arrives late revives a renounced lease.
    AckRevivesRenounced,
    /// A member that hears nothing goes on renewing.
    NoProbe,
    /// The guard does not compare terms.
    TermUnchecked,
    /// The guard does not look at the lease.
    LeaseUnchecked,
    /// The guard admits what was released.
    ReleaseIgnored,
    /// A proposer counts the voters of the record that it wishes for.
    WrongVotersMajority,
    /// A proposer ignores what was accepted before.
    AcceptedIgnored,
    /// One acceptance makes a record chosen.
    ChosenByOne,
    /// The guard trusts the router: it does not look up who owns the resource.
    OwnerUnchecked,
    /// The guard looks at the clock when the member wakes up, not when a write arrives.
    ValidityCached,
    /// A voter's promise and vote are gone after a restart. Left out by the shell.
    VoteForgotten,
    /// A voter whose disk was lost votes under its old name. Left out by the shell.
    LostDiskVotes,
    /// A process that was restarted goes on as the one before. Left out by the shell.
    IncarnationReused,
    /// A clock drifts by far more than the bound. Left out by the machine.
    WildClock,
    /// The store accepts terms in any order. Left out by the store.
    StoreUnfenced,
    /// An effect carries the term of the moment it is sent, not of its admission. Left out by the
    /// service.
    TermOfEffect,
}

/// Which rules are left out.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted(pub Option<Bug>);

/// Which rules are left out: none in this build.
#[cfg(not(feature = "planted"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
