//! What operators do with a cluster whose record lies in etcd.
use std::time::Duration;

use hashroute_coordination::{Key, Record, Value};
use hashroute_core::Epoch;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;

use super::client::Client;
use super::keys::Keys;
use crate::error::ChangeFailed;
use crate::proto::{RecordChange, Wish};
use crate::shell::read_response;
use crate::wire::{Codec, WireError};

/// Calls an etcd cluster on behalf of an operator.
#[derive(Debug)]
pub(crate) struct EtcdOperator {
    client: Client,
    cluster: String,
    timeout: Duration,
}

impl EtcdOperator {
    /// Connects when it is needed.
    pub(crate) fn new(
        endpoints: Vec<(String, Endpoint)>,
        prefix: &str,
        cluster: &str,
        timeout: Duration,
    ) -> Self {
        // Nobody follows, so nothing is ever told.
        let (news, _) = mpsc::channel(1);
        let client = Client::new(endpoints, Keys::new(prefix, cluster), timeout, news);
        Self { client, cluster: cluster.to_owned(), timeout }
    }

    /// The record, if the cluster was founded.
    pub(crate) async fn record(&self) -> Result<Option<Record>, ChangeFailed> {
        let key = self.client.keys.borrow().name(&Key::Record);
        let found = self.client.get(&key).await.map_err(unreachable)?;
        let Some(found) = found else { return Ok(None) };
        let mut codec = Codec::new(self.cluster.clone());
        let message = crate::proto::Record::decode(&found.value[..]);
        let message = message.map_err(|_| WireError::Missing { field: "record" });
        let record = message.and_then(|message| codec.record(&message));
        record.map(Some).map_err(|error| ChangeFailed::Told {
            code: "record_unreadable".into(),
            message: format!("etcd has a record that this release cannot read: {error}"),
        })
    }

    /// Writes the first record down, unless there is one: then returns that.
    pub(crate) async fn found(&self, first: &Record) -> Result<Record, ChangeFailed> {
        let (key, value) = {
            let keys = self.client.keys.borrow();
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
            code: "other_founding".into(),
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
        let key = self.client.keys.borrow().wish(number);
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

/// How often it is looked whether a change was made: an operator does not notice.
const POLL: Duration = Duration::from_millis(20);
