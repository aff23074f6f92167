//! What operators do with a cluster whose record lies in etcd.
use std::time::Duration;

use hashroute_coordination::{Incarnation, Key, Record, Value, VoterEntry, VoterId, Writer};
use hashroute_core::{Epoch, PodId};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::client::{Client, Patience};
use super::keys::Keys;
use crate::error::{CallError, ChangeFailed, StartError};
use crate::operator::Description;
use crate::proto::{RecordChange, Wish};
use crate::record_json::record_json;
use crate::settings::TlsSettings;
use crate::shell::read_response;
use crate::snapshot::{NodeSnapshot, VoterSnapshot};
use crate::transport;
use crate::wire::{Codec, WireError};

/// Calls an etcd cluster on behalf of an operator.
#[derive(Debug)]
pub(crate) struct EtcdOperator {
    client: Client,
    cluster: String,
    address: String,
    timeout: Duration,
    /// How many members of etcd there are to ask.
    members: usize,
}

impl EtcdOperator {
    /// Connects when it is needed.
    ///
    /// # Errors
    ///
    /// [`StartError`] if an address or a certificate cannot be used.
    pub(crate) fn new(
        endpoints: &[String],
        tls: Option<&TlsSettings>,
        prefix: &str,
        cluster: &str,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let connect = |address: &String| Ok((address.clone(), transport::endpoint(address, tls)?));
        let endpoints: Vec<_> = endpoints.iter().map(connect).collect::<Result<_, StartError>>()?;
        let address = endpoints.first().map(|(address, _)| address.clone()).unwrap_or_default();
        // Nobody follows, so nothing is ever told.
        let (news, _) = mpsc::channel(1);
        let members = endpoints.len().max(1);
        // Each member is asked in turn, and all of them within the time.
        let most = timeout / u32::try_from(members).unwrap_or(1);
        let patience = Patience { late: most, most };
        let client = Client::new(endpoints, Keys::new(prefix, cluster), patience, news);
        Ok(Self { client, cluster: cluster.to_owned(), address, timeout, members })
    }

    /// Asks one member of etcd after the other, until one answers. Whatever is asked can be asked
    /// again without harm.
    async fn ask<T, F: Future<Output = Result<T, String>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, ChangeFailed> {
        let mut reasons = Vec::new();
        for _ in 0..self.members {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(ChangeFailed::Unreachable { reason: reasons.join("; ") })
    }

    /// What a record has where voters would be: etcd as a whole, which no member of ours asks for
    /// a lease.
    pub(crate) fn entry(&self) -> VoterEntry {
        VoterEntry { id: VoterId(ETCD), address: self.address.clone() }
    }

    /// What etcd says of the cluster. Where leases lie in etcd, it stands for the voters: then this
    /// takes a renewal interval, and a lease if a process does not renew. Voters speak for
    /// themselves.
    pub(crate) async fn describe(&self) -> Result<Description, CallError> {
        let address = self.address.clone();
        let failed = |error: ChangeFailed| {
            let reason = if let ChangeFailed::Unreachable { reason } = error {
                reason
            } else {
                error.to_string()
            };
            CallError { address: address.clone(), reason }
        };
        let record = self.record().await.map_err(failed)?;
        let epoch = record.as_ref().map_or(0, |record| record.epoch().get());
        let grants = !record.as_ref().is_some_and(Record::has_lease_voters);
        let voter_id = if grants { format!("{ETCD:032x}") } else { String::new() };
        let mut voter = grants.then(|| VoterSnapshot {
            id: voter_id.clone(),
            address: address.clone(),
            epoch,
            is_voter: record.is_some(),
            ..VoterSnapshot::default()
        });
        if let (Some(voter), Some(record)) = (&mut voter, &record) {
            voter.attending = self.renewing(record).await.map_err(failed)?;
        }
        let snapshot = NodeSnapshot {
            cluster: self.cluster.clone(),
            engine: "etcd",
            epoch,
            record: record.as_ref().map(record_json).unwrap_or_default(),
            voter,
            ..NodeSnapshot::default()
        };
        let snapshot = serde_json::to_string(&snapshot).unwrap_or_default();
        let cluster = self.cluster.clone();
        Ok(Description { address, cluster, voter_id, record, snapshot })
    }

    /// The pods whose processes renew their leases: that is seen by looking twice.
    async fn renewing(&self, record: &Record) -> Result<Vec<String>, ChangeFailed> {
        let ends = Instant::now() + record.parameters().ttl;
        let writers = writers_of(record);
        let before = self.ask(|| self.client.beats()).await?;
        loop {
            let now = self.ask(|| self.client.beats()).await?;
            let renewed = |writer: &&Writer| {
                now.iter().any(|beat| beat.0 == **writer && !before.contains(beat))
            };
            let renewing: Vec<&Writer> = writers.iter().filter(renewed).collect();
            if renewing.len() == writers.len() || Instant::now() >= ends {
                return Ok(renewing.into_iter().map(|writer| writer.pod.to_string()).collect());
            }
            sleep(POLL).await;
        }
    }

    /// The record, if the cluster was founded.
    pub(crate) async fn record(&self) -> Result<Option<Record>, ChangeFailed> {
        let key = self.client.keys().name(&Key::Record);
        let found = self.ask(|| self.client.get(&key)).await?;
        let Some(found) = found else { return Ok(None) };
        let mut codec = Codec::new(self.cluster.clone());
        let message = crate::proto::Record::decode(&found.value[..]);
        let message = message.map_err(|_| WireError::Missing { field: "record" });
        let record = message.and_then(|message| codec.record(&message));
        record.map(Some).map_err(|error| ChangeFailed::Told {
            code: "record_malformed".into(),
            message: format!("etcd has a record that this release cannot read: {error}"),
        })
    }

    /// Writes the first record down, unless there is one: then returns that.
    pub(crate) async fn found(&self, first: &Record) -> Result<Record, ChangeFailed> {
        let (key, value) = {
            let keys = self.client.keys();
            (keys.name(&Key::Record), keys.value_out(&Value::Record(first.clone())))
        };
        if self.ask(|| self.client.put_if(&key, 0, value.clone())).await? {
            return Ok(first.clone());
        }
        let present = self.record().await?.unwrap_or_else(|| first.clone());
        if present.cluster() == first.cluster() {
            return Ok(present);
        }
        Err(ChangeFailed::Told {
            code: "founded_already".into(),
            message: format!(
                "etcd has a record of cluster {:?} that was founded with other settings: nothing was \
                 changed; use another name, or remove its keys if the cluster is gone for good",
                self.cluster
            ),
        })
    }

    /// Writes down what is wanted, and waits until a member has made it. `number` names it. As soon
    /// as `is_called_off` says so, it is withdrawn, unless a member has taken it up.
    pub(crate) async fn change(
        &self,
        number: u64,
        change: RecordChange,
        mut is_called_off: impl FnMut() -> bool,
    ) -> Result<Epoch, ChangeFailed> {
        let key = self.client.keys().wish(number);
        let wish = Wish { change: Some(change), by: None, result: None };
        let wish = wish.encode_to_vec();
        let written = self.ask(|| self.client.put_if(&key, 0, wish.clone())).await;
        let deadline = Instant::now() + self.timeout;
        loop {
            let found = match self.ask(|| self.client.get(&key)).await {
                Ok(found) => found,
                // It may be written, and taken up.
                Err(_) if written.is_ok() && Instant::now() < deadline => {
                    sleep(POLL).await;
                    continue;
                }
                Err(_) => return Err(self.unknown()),
            };
            let Some(found) = found else {
                // Nobody else removes it: it was never written.
                return Err(written.err().unwrap_or_else(|| self.unknown()));
            };
            let wish = Wish::decode(&found.value[..]).unwrap_or_default();
            if let Some(result) = wish.result {
                // Left behind it would do no harm: nobody takes up what has a result.
                let _ = self.client.remove(&key).await;
                return read_response(result);
            }
            let called_off = is_called_off();
            if called_off || Instant::now() >= deadline {
                let nobody = wish.by.is_none()
                    && self.client.remove_if(&key, found.mod_revision).await == Ok(true);
                return Err(match nobody {
                    true if called_off => ChangeFailed::Unreachable { reason: CALLED_OFF.into() },
                    true => untaken(),
                    false => self.unknown(),
                });
            }
            sleep(POLL).await;
        }
    }

    fn unknown(&self) -> ChangeFailed {
        let patience_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        ChangeFailed::Unknown { patience_ms }
    }
}

/// The processes that may write, by their pods.
fn writers_of(record: &Record) -> Vec<Writer> {
    let writer = |(pod, incarnation): (&PodId, &Incarnation)| Writer {
        pod: pod.clone(),
        incarnation: *incarnation,
    };
    record.writers().iter().map(writer).collect()
}

/// Withdrawn before anybody took it up, so it is certain that it is not made.
fn untaken() -> ChangeFailed {
    let reason = "no process of a pod took it up from etcd: the members of the cluster make changes, \
                  and none of them runs or reaches etcd";
    ChangeFailed::Unreachable { reason: reason.into() }
}

/// The same, since the operator does not want it any more.
const CALLED_OFF: &str = "called off before any process took it up, and withdrawn: it is not made";
/// The name under which etcd stands where voters would.
const ETCD: u128 = u128::from_be_bytes(*b"etcd, as a whole");
/// How often it is looked whether a change was made: an operator does not notice.
const POLL: Duration = Duration::from_millis(20);
