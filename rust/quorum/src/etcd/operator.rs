//! What operators do with a cluster whose record lies in etcd.
use std::time::Duration;

use hashroute_coordination::{Key, Record, Value, VoterEntry, VoterId};
use hashroute_core::Epoch;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::keys::Keys;
use crate::error::{CallError, ChangeFailed, StartError};
use crate::operator::Description;
use crate::proto::{RecordChange, Wish};
use crate::record_json::record_json;
use crate::settings::TlsSettings;
use crate::shell::read_response;
use crate::snapshot::NodeSnapshot;
use crate::transport;
use crate::wire::{Codec, WireError};

/// Calls an etcd cluster on behalf of an operator.
#[derive(Debug)]
pub(crate) struct EtcdOperator {
    client: Client,
    cluster: String,
    address: String,
    timeout: Duration,
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
        let client = Client::new(endpoints, Keys::new(prefix, cluster), timeout, news);
        Ok(Self { client, cluster: cluster.to_owned(), address, timeout })
    }

    /// What a record has where voters would be: etcd as a whole, which no member of ours asks for
    /// a lease.
    pub(crate) fn entry(&self) -> VoterEntry {
        VoterEntry { id: VoterId(ETCD), address: self.address.clone() }
    }

    /// What can be said of the cluster from outside.
    pub(crate) async fn describe(&self) -> Result<Description, CallError> {
        let address = self.address.clone();
        let record = self
            .record()
            .await
            .map_err(|error| CallError { address: address.clone(), reason: error.to_string() })?;
        let snapshot = NodeSnapshot {
            cluster: self.cluster.clone(),
            engine: "etcd",
            epoch: record.as_ref().map_or(0, |record| record.epoch().get()),
            record: record.as_ref().map(record_json).unwrap_or_default(),
            ..NodeSnapshot::default()
        };
        let snapshot = serde_json::to_string(&snapshot).unwrap_or_default();
        let (cluster, voter_id) = (self.cluster.clone(), format!("{ETCD:032x}"));
        Ok(Description { address, cluster, voter_id, record, snapshot })
    }

    /// The record, if the cluster was founded.
    pub(crate) async fn record(&self) -> Result<Option<Record>, ChangeFailed> {
        let key = self.client.keys().name(&Key::Record);
        let found = self.client.get(&key).await.map_err(unreachable)?;
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
        if self.client.put_if(&key, 0, value).await.map_err(unreachable)? {
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

    /// Writes down what is wanted, and waits until a member has made it. `number` names it.
    pub(crate) async fn change(
        &self,
        number: u64,
        change: RecordChange,
    ) -> Result<Epoch, ChangeFailed> {
        let key = self.client.keys().wish(number);
        let wish = Wish { change: Some(change), by: None, result: None };
        self.client.put_if(&key, 0, wish.encode_to_vec()).await.map_err(unreachable)?;
        let deadline = Instant::now() + self.timeout;
        let result = loop {
            let found = self.client.get(&key).await.map_err(unreachable)?;
            let wish = found.and_then(|found| Wish::decode(&found.value[..]).ok());
            if let Some(result) = wish.as_ref().and_then(|wish| wish.result.clone()) {
                break read_response(result);
            }
            if Instant::now() >= deadline {
                let is_taken = wish.is_some_and(|wish| wish.by.is_some());
                break Err(if is_taken {
                    let patience_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
                    ChangeFailed::Unknown { patience_ms }
                } else {
                    let reason = "no member of the cluster took it up".into();
                    ChangeFailed::Unreachable { reason }
                });
            }
            sleep(POLL).await;
        };
        self.client.remove(&key).await.map_err(unreachable)?;
        result
    }
}

fn unreachable(reason: String) -> ChangeFailed {
    ChangeFailed::Unreachable { reason }
}

/// The name under which etcd stands where voters would.
const ETCD: u128 = u128::from_be_bytes(*b"etcd, as a whole");
/// How often it is looked whether a change was made: an operator does not notice.
const POLL: Duration = Duration::from_millis(20);
