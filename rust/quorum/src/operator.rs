//! What operators do from outside: found a cluster, look at it, change its record.
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{LeaseParameters, Record, VoterEntry, VoterId};
use hashroute_core::{Epoch, PodId, View};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::dice::Dice;
use crate::error::{CallError, ChangeFailed, StartError};
use crate::etcd::EtcdOperator;
use crate::settings::{SettingsError, TlsSettings, millis};
use crate::wire::Codec;

mod call;
mod change;
mod found;

use call::{Called, Caller};

/// Whom to call, and how. As a JSON document every field must be given, and an unknown one is
/// refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSettings {
    /// The name of the cluster.
    pub cluster: String,
    /// `host:port` of its processes.
    pub voters: Vec<String>,
    /// The etcd cluster that holds the record, if that is the engine: then `voters` are those that
    /// grant leases, or none if those lie in etcd, too.
    #[serde(default)]
    pub etcd: Option<EtcdSettings>,
    /// Certificates; none for connections in the clear.
    pub tls: Option<TlsSettings>,
    /// How long one call may take.
    #[serde(rename = "timeout_ms", deserialize_with = "millis")]
    pub timeout: Duration,
}

impl OperatorSettings {
    /// Reads the JSON document.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Malformed`], saying which field is wrong.
    pub fn from_json(document: &str) -> Result<Self, SettingsError> {
        serde_json::from_str(document)
            .map_err(|error| SettingsError::Malformed { reason: error.to_string() })
    }
}

/// Where the record is, for the engine on etcd.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdSettings {
    /// `host:port` of its members.
    pub endpoints: Vec<String>,
    /// What comes before every key.
    pub prefix: String,
}

/// Calls the processes of a cluster. Every method waits for its answers, so none may be called
/// from within an event loop.
#[derive(Debug)]
pub struct Operator {
    cluster: String,
    tls: Option<TlsSettings>,
    timeout: Duration,
    /// In the order of the settings.
    callers: Vec<Caller>,
    etcd: Option<EtcdOperator>,
    runtime: Runtime,
}

/// What a process says of itself.
#[derive(Clone, Debug)]
pub struct Description {
    /// Whom was asked.
    pub address: String,
    /// The name of its cluster.
    pub cluster: String,
    /// The id of its voter, 32 hexadecimal digits; empty if it does not vote.
    pub voter_id: String,
    /// Its record.
    pub record: Option<Record>,
    /// Its figures, as JSON.
    pub snapshot: String,
}

impl Operator {
    /// Makes an operator. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`StartError::Settings`], [`StartError::Tls`], or [`StartError::Thread`] if the operating
    /// system gives no event queue to wait on.
    pub fn new(settings: OperatorSettings) -> Result<Self, StartError> {
        let OperatorSettings { cluster, voters, etcd, tls, timeout } = settings;
        let caller = |address: &String| Caller::new(address, tls.as_ref(), timeout);
        let callers = voters.iter().map(caller).collect::<Result<_, _>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| StartError::Thread { name: "operator", source })?;
        // Connections to etcd belong to the event loop that they are made in.
        let inside = runtime.enter();
        let etcd = etcd
            .map(|it| EtcdOperator::new(&it.endpoints, tls.as_ref(), &it.prefix, &cluster, timeout))
            .transpose()?;
        drop(inside);
        Ok(Self { cluster, tls, timeout, callers, etcd, runtime })
    }

    /// Asks every process who it is, all at the same time; in the order of the settings. Where the
    /// record lies in etcd, what that says comes first, and voters are asked unless it says that
    /// there are none.
    #[must_use]
    pub fn describe(&self) -> Vec<Result<Description, CallError>> {
        let Some(etcd) = &self.etcd else { return self.describe_voters() };
        let described = self.runtime.block_on(etcd.describe());
        let record = described.as_ref().ok().and_then(|it| it.record.as_ref());
        let asks_voters = record.is_none_or(Record::has_lease_voters);
        let mut all = vec![described];
        if asks_voters {
            all.extend(self.describe_voters());
        }
        all
    }

    fn describe_voters(&self) -> Vec<Result<Description, CallError>> {
        let answers = self.runtime.block_on(call::all(self.callers.iter().map(Caller::describe)));
        let mut codec = Codec::new(self.cluster.clone());
        let read = |(caller, answer): (&Caller, Called<_>)| {
            let address = caller.address().to_owned();
            let failed = |reason| CallError { address: address.clone(), reason };
            let answer = answer.map_err(|error| failed(error.to_string()))?;
            Description::read(&address, answer, &mut codec).map_err(failed)
        };
        self.callers.iter().zip(answers).map(read).collect()
    }

    /// Founds the cluster: learns the voters' ids, makes the first record of them, and tells all, or
    /// etcd alone if the record lies there: voters learn it from etcd.
    /// The record has the voters by the addresses of the settings and in their order; its epoch is
    /// 1, whatever that of the view. Repeating it after a part of it failed finishes it. Returns
    /// the first record, also of a cluster that has gone on since.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`]: a voter cannot be reached, or has a record of another founding; or no
    /// record can be made of this.
    pub fn found(
        &self,
        view: &View,
        lease: LeaseParameters,
        groups: &[(String, Vec<PodId>)],
    ) -> Result<Record, ChangeFailed> {
        let groups: Vec<(Arc<str>, Vec<PodId>)> =
            groups.iter().map(|(name, pods)| (Arc::from(name.as_str()), pods.clone())).collect();
        if let Some(etcd) = &self.etcd {
            let voters = match self.callers.len() {
                0 => vec![etcd.entry()],
                3 | 5 => found::voters(&self.cluster, &self.all_described()?)?,
                voters => return Err(found::not_so_many(voters)),
            };
            let (record, _) = found::first(&self.cluster, lease, voters, view, &groups)?;
            return self.runtime.block_on(etcd.found(&record));
        }
        let described = self.all_described()?;
        let voters = found::voters(&self.cluster, &described)?;
        let (record, message) = found::first(&self.cluster, lease, voters, view, &groups)?;
        for description in &described {
            found::check_same(description, &record)?;
        }
        let missing = self.callers.iter().zip(&described);
        let missing: Vec<_> =
            missing.filter(|(_, it)| it.record.is_none()).map(|(caller, _)| caller).collect();
        let calls = missing.iter().map(|caller| caller.found(message.clone()));
        let answers = self.runtime.block_on(call::all(calls));
        found::check_told(missing.into_iter().map(Caller::address).zip(answers))?;
        Ok(record)
    }

    /// Makes a change, given as JSON with one key: `{"drain": {"pod": …}}`, `{"activate": {"pod": …}}`, `{"remove": {"pod": …}}`,
    /// `{"reweight": {"pod": …, "weight": …}}`, `{"lead": {"group": …, "leader": … or null}}`,
    /// `{"add_group": {"name": …, "candidates": […]}}`, `{"replace_voter": {"old": id or address,
    /// "new": address}}`. Asks one process after another until one can be reached that can do it,
    /// and returns the epoch of the record with the change.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`]. After [`ChangeFailed::Unknown`] the change may be made or not; all others
    /// are certain.
    pub fn change(&self, change: &str) -> Result<Epoch, ChangeFailed> {
        self.change_unless(change, || false)
    }

    /// As [`Operator::change`]; with the engine on etcd, where what is wanted is written down, it
    /// asks often whether that was called off, and then withdraws it if nobody has taken it up.
    /// Calls to voters are never called off: one that was sent may be carried out.
    ///
    /// # Errors
    ///
    /// As [`Operator::change`]; what was withdrawn is [`ChangeFailed::Unreachable`].
    pub fn change_unless(
        &self,
        change: &str,
        is_called_off: impl FnMut() -> bool,
    ) -> Result<Epoch, ChangeFailed> {
        let asked = change::parse(change)?;
        if let Some(etcd) = &self.etcd {
            let change = self.message(&asked)?;
            let number = Dice::new().map_err(|error| told(error.code(), error.to_string()))?.word();
            return self.runtime.block_on(etcd.change(number, change, is_called_off));
        }
        let change = self.message(&asked)?;
        self.runtime.block_on(change::make(&self.cluster, &self.callers, change))
    }

    fn message(&self, asked: &change::Asked) -> Result<crate::proto::RecordChange, ChangeFailed> {
        match asked {
            change::Asked::ReplaceVoter { old, new } => self.replacement(old, new),
            change::Asked::Drain { .. }
            | change::Asked::Activate { .. }
            | change::Asked::Remove { .. }
            | change::Asked::Reweight { .. }
            | change::Asked::Lead { .. }
            | change::Asked::AddGroup { .. } => Ok(change::message(asked)),
        }
    }

    /// All descriptions of voters, or why there is none of some.
    fn all_described(&self) -> Result<Vec<Description>, ChangeFailed> {
        let (described, failed): (Vec<_>, Vec<_>) =
            self.describe_voters().into_iter().partition(Result::is_ok);
        if failed.is_empty() {
            let described: Vec<_> = described.into_iter().flatten().collect();
            described.iter().try_for_each(|description| self.check_engine(description))?;
            return Ok(described);
        }
        let reasons: Vec<String> =
            failed.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
        Err(ChangeFailed::Unreachable { reason: reasons.join("; ") })
    }

    /// Whether the process runs with the engine of the settings: a voter of the other one would
    /// never vote.
    fn check_engine(&self, description: &Description) -> Result<(), ChangeFailed> {
        let engine = if self.etcd.is_some() { "etcd" } else { "embedded" };
        let snapshot: Value = serde_json::from_str(&description.snapshot).unwrap_or_default();
        let Some(other) = snapshot["engine"].as_str().filter(|other| *other != engine) else {
            return Ok(());
        };
        let message = format!(
            "the process at {} runs with engine = {other:?}, and {engine:?} is meant: write the same \
             quorum.engine for every process of the cluster",
            description.address
        );
        Err(told("other_engine", message))
    }

    /// Finds out the ids of who leaves and of who comes.
    fn replacement(
        &self,
        old: &str,
        new: &str,
    ) -> Result<crate::proto::RecordChange, ChangeFailed> {
        let described = self.describe();
        let ours = described.iter().flatten().filter(|it| it.cluster == self.cluster);
        let records = ours.filter_map(|description| description.record.as_ref());
        let newest = records.max_by_key(|record| record.epoch());
        let record = newest.ok_or_else(|| change::no_record(&described))?;
        if self.etcd.is_some() && !record.has_lease_voters() {
            let message = "leases of this cluster lie in etcd, so there are no voters of ours to \
                           replace: etcd replaces its own members, see `etcdctl member`";
            return Err(told("not_a_voter", message.to_owned()));
        }
        let old = change::voter(record, old)?;
        let caller = Caller::new(new, self.tls.as_ref(), self.timeout)
            .map_err(|error| told(error.code(), error.to_string()))?;
        let answer = self.runtime.block_on(caller.describe());
        let unreachable = |reason| ChangeFailed::Unreachable { reason: format!("{new}: {reason}") };
        let answer = answer.map_err(|error| unreachable(error.to_string()))?;
        let codec = &mut Codec::new(self.cluster.clone());
        let description = Description::read(new, answer, codec).map_err(unreachable)?;
        self.check_engine(&description)?;
        change::replace_voter(&self.cluster, record, old, &description)
    }
}

impl Description {
    /// The id of its voter.
    fn voter(&self) -> Option<VoterId> {
        u128::from_str_radix(&self.voter_id, 16).ok().map(VoterId)
    }

    /// The voter as a record has it, reached by the address that was asked.
    fn entry(&self, cluster: &str) -> Result<VoterEntry, ChangeFailed> {
        let Self { address, cluster: found, .. } = self;
        if found != cluster {
            let message = format!("{address} belongs to cluster {found:?}, and not to {cluster:?}");
            return Err(told("other_cluster", message));
        }
        let no_voter = || {
            let message = format!(
                "the process at {address} does not vote: give it quorum.listen and quorum.data"
            );
            told("not_a_voter", message)
        };
        Ok(VoterEntry { id: self.voter().ok_or_else(no_voter)?, address: address.clone() })
    }
}

pub(crate) use change::read as read_change;

fn told(code: &str, message: String) -> ChangeFailed {
    ChangeFailed::Told { code: code.to_owned(), message }
}

#[cfg(test)]
mod tests;
