//! The figures of a node at one moment.
use std::collections::BTreeMap;

use serde::Serialize;

/// A node at one moment. Counters count from its start; times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeSnapshot {
    /// The name of the cluster.
    pub cluster: String,
    /// Its id, 32 hexadecimal digits; empty if not known yet.
    pub cluster_id: String,
    /// `embedded` or `etcd`.
    pub engine: &'static str,
    /// The epoch of the newest record; 0 for none.
    pub epoch: u64,
    /// Whether no majority of voters was heard for longer than `stale_after`.
    pub is_stale: bool,
    /// The newest record, in the words of `record_json`; null if there is none.
    pub record: serde_json::Value,
    /// For how long this process has gone by it; null if there is none.
    pub record_age_ms: Option<f64>,
    /// When the last 64 records began to count here, oldest first; the last is `record`.
    pub installed: Vec<InstalledRecord>,
    /// How this process reaches each voter of the record.
    pub voters: Vec<VoterLink>,
    /// The voter of this process.
    pub voter: Option<VoterSnapshot>,
    /// The member of this process.
    pub member: Option<MemberSnapshot>,
    /// The name by which this process follows voters as a router does; null for a member.
    pub follows_as: Option<String>,
    /// What was measured of the machine.
    pub stalls: StallSnapshot,
    /// The longest time to a new writer that this process can promise after a failure; 0 if it
    /// cannot tell.
    pub recovery_promise_ms: f64,
    /// Trouble that is coming, each as a sentence that says what to do.
    pub warnings: Vec<String>,
}

/// When one record began to count at a process: what says since when somebody writes, for a term
/// is an epoch. A process that was told late, or has just started, knows a later moment than others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InstalledRecord {
    /// Its epoch.
    pub epoch: u64,
    /// How long ago.
    pub ms_ago: f64,
}

/// The way to one voter.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VoterLink {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Where it is reached.
    pub address: String,
    /// Whether a conversation is open.
    pub is_connected: bool,
    /// When it was last heard; null for never.
    pub heard_ms_ago: Option<f64>,
    /// The epoch of its record as it last said.
    pub epoch: u64,
    /// How long its last answer took.
    pub round_trip_ms: Option<f64>,
    /// How much faster its clock ran than ours, in millionths, over the last minutes; null if that
    /// cannot be told yet.
    pub drift_ppm: Option<f64>,
}

/// A voter.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VoterSnapshot {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// The epoch of its record; 0 for none.
    pub epoch: u64,
    /// Whether the record has it.
    pub is_voter: bool,
    /// Renewals granted.
    pub grants: u64,
    /// Renewals refused, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Writes to its disk, and how long the last, the median and the slowest hundredth took.
    pub syncs: u64,
    /// The last one.
    pub last_sync_ms: f64,
    /// The median of the last 1,000.
    pub sync_p50_ms: f64,
    /// The slowest hundredth of the last 1,000.
    pub sync_p99_ms: f64,
    /// Pods whose members attend.
    pub attending: Vec<String>,
    /// Routers that follow, and the epoch that each was last sent.
    pub routers: BTreeMap<String, u64>,
    /// How many of them are behind the voter's record.
    pub stale_routers: u64,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemberSnapshot {
    /// Its pod.
    pub pod: String,
    /// Its process, 16 hexadecimal digits.
    pub incarnation: String,
    /// Whether the record names it.
    pub is_named: bool,
    /// Whether it holds a lease.
    pub holds_lease: bool,
    /// Since when without a gap; null without a lease.
    pub lease_age_ms: Option<f64>,
    /// How much of it is left; null without a lease.
    pub lease_margin_ms: Option<f64>,
    /// The least that was left whenever it was extended, over the last 1,000 renewals.
    pub lease_margin_least_ms: Option<f64>,
    /// How long renewals took to be granted by a majority: the median of the last 1,000.
    pub renewal_p50_ms: f64,
    /// The slowest hundredth of them.
    pub renewal_p99_ms: f64,
    /// Records that this member got chosen.
    pub elections: u64,
    /// Slots that it owns.
    pub slots: u64,
    /// Groups that it leads.
    pub groups: Vec<String>,
    /// Writes admitted.
    pub admitted: u64,
    /// Writes under way.
    pub under_way: u64,
    /// Writes refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// How late the thread that keeps the lease woke up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StallSnapshot {
    /// Whether it has real-time priority.
    pub is_realtime: bool,
    /// The longest since the start.
    pub worst_ms: f64,
    /// The longest of the last ten minutes.
    pub worst_lately_ms: f64,
    /// The slowest hundredth of the last 1,000 wake-ups.
    pub p99_ms: f64,
    /// The longest stall that does not end the lease.
    pub budget_ms: f64,
}
