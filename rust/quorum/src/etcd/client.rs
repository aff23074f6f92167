//! What is said to etcd, and what it answers.
mod watching;

use std::pin::pin;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashroute_coordination::{
    Entry, Key, RegisterEvent, Request, Revision, Transaction, Value, Writer,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::keys::{Keys, revision};
use super::members::Members;
use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::kv_client::KvClient;
use super::proto::request_op::Request as Op;
use super::proto::response_op::Response as Answer;
use super::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::proto::{MakeChangeResponse, RecordChange, Wish};
use crate::wire::writer_out;

/// What comes of talking to etcd.
#[derive(Debug)]
pub(super) enum News {
    /// For the member.
    Told(RegisterEvent),
    /// How long a transaction or read took, of which etcd says that a majority of it has answered.
    Answered(Duration),
    /// It does not answer, or not with what was expected: in words.
    Trouble(String),
    /// An operator wants something.
    Wish {
        /// Where it is written down.
        key: Vec<u8>,
        /// The commit that wrote it.
        at: i64,
        /// What.
        wish: Wish,
    },
    /// This process is the one to make it.
    Claimed {
        /// Where it is written down.
        key: Vec<u8>,
        /// What.
        wanted: RecordChange,
    },
}

/// How long a member of etcd is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// After this another one is asked as well, or instead. Also how long a watch may be silent.
    pub(super) late: Duration,
    /// After this nothing is expected any more.
    pub(super) most: Duration,
}

/// A client of one etcd cluster. It talks to one member of it, and to another one when that is late
/// or fails.
#[derive(Debug)]
pub(super) struct Client {
    members: Members,
    keys: Mutex<Keys>,
    patience: Patience,
    news: mpsc::Sender<News>,
}

impl Client {
    /// Connects when it is needed.
    pub(super) fn new(
        endpoints: Vec<(String, Endpoint)>,
        keys: Keys,
        patience: Patience,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self { members: Members::new(endpoints), keys: Mutex::new(keys), patience, news }
    }

    /// Where the next call goes.
    pub(super) fn address(&self) -> &str {
        self.members.address(self.members.present())
    }

    /// The names of the keys. Not to be held while anything is waited for.
    pub(super) fn keys(&self) -> MutexGuard<'_, Keys> {
        // What they are does not change, and what they remember is whole at any time.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        what: &'static str,
        call: impl FnOnce(KvClient<Channel>) -> F,
    ) -> Result<T, String> {
        self.call_at(self.members.present(), what, call).await
    }

    /// Calls one member. If it is late, it is still waited for, but what comes next goes to another.
    async fn call_at<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        member: usize,
        what: &'static str,
        call: impl FnOnce(KvClient<Channel>) -> F,
    ) -> Result<T, String> {
        let channel =
            self.members.channel(member).ok_or_else(|| "no endpoints of etcd".to_owned())?;
        let kv = KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut answer = pin!(timeout(self.patience.most, call(kv)));
        let in_time = timeout(self.patience.late, answer.as_mut()).await;
        let is_late = in_time.is_err();
        let answer = if let Ok(answer) = in_time {
            answer
        } else {
            self.members.failed(member);
            answer.await
        };
        let failed = match answer {
            Ok(Ok(response)) => {
                self.members.answered(member);
                return Ok(response.into_inner());
            }
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => format!("no answer within {} ms", self.patience.most.as_millis()),
        };
        // Being late counted already. By now the member may be good again: etcd never answers to
        // what it lost with its leader.
        if !is_late {
            self.members.failed(member);
        }
        Err(format!("etcd {}: {what}: {failed}", self.members.address(member)))
    }

    /// Calls one member, and another one whenever the last is late or has failed, until one
    /// answers; returns which. Only for what has no other effect if several carry it out. An answer
    /// that settles nothing counts only if no other member gives a better one soon.
    async fn insist<
        T: 'static,
        F: Future<Output = Result<tonic::Response<T>, Status>> + 'static,
    >(
        self: &Rc<Self>,
        what: &'static str,
        settles: impl Fn(&T) -> bool,
        call: impl Fn(KvClient<Channel>) -> F + Clone + 'static,
    ) -> Result<(usize, T), String> {
        let mut copies = JoinSet::new();
        let mut failed = String::new();
        for _ in 0..COPIES_MOST {
            let (client, call, member) = (Rc::clone(self), call.clone(), self.members.present());
            copies.spawn_local(async move {
                client.call_at(member, what, call).await.map(|answer| (member, answer))
            });
            let late = Instant::now() + self.patience.late;
            match timeout(self.patience.late, copies.join_next()).await {
                Ok(Some(Ok(Ok(answer)))) => {
                    let late = self.patience.late;
                    let mut best = answer;
                    while !settles(&best.1)
                        && let Ok(Some(Ok(Ok(answer)))) = timeout(late, copies.join_next()).await
                    {
                        best = answer;
                    }
                    return Ok(best);
                }
                Ok(Some(Ok(Err(trouble)))) => {
                    failed = trouble;
                    // Members that fail at once are not asked without a pause.
                    sleep_until(late.min(Instant::now() + PAUSE)).await;
                }
                Ok(Some(Err(error))) => failed = error.to_string(),
                Ok(None) => {}
                Err(_) => self.members.failed(member),
            }
        }
        while let Some(answer) = copies.join_next().await {
            match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(trouble)) => failed = trouble,
                Err(error) => failed = error.to_string(),
            }
        }
        Err(failed)
    }

    async fn tell(&self, news: News) {
        // A closed channel is a loop that is over.
        let _ = self.news.send(news).await;
    }

    /// Puts a transaction to etcd and tells what came of it. It is put to several members only if
    /// that [changes nothing](Transaction::is_repeatable): of all others the member knows better what is worth
    /// saying again.
    pub(super) async fn transact(self: Rc<Self>, request: Request, asked: Transaction) {
        let message = self.message(&asked);
        let started = crate::clock::now();
        let put = move |mut kv: KvClient<Channel>| {
            let message = message.clone();
            async move { kv.txn(message).await }
        };
        let answer = if asked.is_repeatable() {
            // One that conflicts may do so with a copy of its own.
            self.insist("transaction", |it| it.succeeded, put).await.map(|(_, answer)| answer)
        } else {
            self.call("transaction", put).await
        };
        match answer {
            Err(trouble) => {
                self.tell(News::Told(RegisterEvent::Unanswered { request })).await;
                self.tell(News::Trouble(trouble)).await;
            }
            Ok(response) => {
                self.tell(News::Answered(crate::clock::now().saturating_sub(started))).await;
                let at = revision(response.header.map_or(0, |header| header.revision));
                let event = if response.succeeded {
                    Ok(RegisterEvent::Committed { request, revision: at })
                } else {
                    let found =
                        response.responses.into_iter().map(|answer| match answer.response {
                            Some(Answer::ResponseRange(range)) => range.kvs.into_iter().next(),
                            Some(Answer::ResponsePut(_) | Answer::ResponseDeleteRange(_))
                            | None => None,
                        });
                    self.read(&asked.otherwise, found, at)
                        .map(|entries| RegisterEvent::Conflicted { request, entries })
                };
                self.tell(event.map_or_else(News::Trouble, News::Told)).await;
            }
        }
    }

    /// What stands under each of the keys; where nothing does, that it is not there.
    fn read(
        &self,
        asked: &[Key],
        found: impl Iterator<Item = Option<KeyValue>>,
        at: Revision,
    ) -> Result<Vec<Entry>, String> {
        let mut keys = self.keys();
        let entries = asked.iter().zip(found).map(|(key, found)| match found {
            Some(found) => match keys.entry(&found) {
                Ok(Some(entry)) => Ok(entry),
                Ok(None) => Err(unreadable(&found, "not the key that was asked for")),
                Err(error) => Err(unreadable(&found, &error.to_string())),
            },
            None => Ok(Entry { key: key.clone(), revision: at, value: None }),
        });
        entries.collect()
    }

    fn message(&self, asked: &Transaction) -> TxnRequest {
        let keys = self.keys();
        let compare = asked.when.iter().map(|(key, revision)| Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: keys.name(key),
            target_union: Some(TargetUnion::ModRevision(
                i64::try_from(revision.0).unwrap_or(i64::MAX),
            )),
        });
        let success = asked.then.iter().map(|(key, value)| match value {
            Some(value) => {
                Op::RequestPut(PutRequest { key: keys.name(key), value: keys.value_out(value) })
            }
            None => Op::RequestDeleteRange(DeleteRangeRequest { key: keys.name(key) }),
        });
        let failure = asked.otherwise.iter().map(|key| {
            Op::RequestRange(RangeRequest { key: keys.name(key), ..RangeRequest::default() })
        });
        let op = |request| RequestOp { request: Some(request) };
        TxnRequest {
            compare: compare.collect(),
            success: success.map(op).collect(),
            failure: failure.map(op).collect(),
        }
    }

    /// Puts this process's name to what an operator wants, if nobody was quicker.
    pub(super) async fn claim(self: Rc<Self>, key: Vec<u8>, at: i64, wish: Wish, me: Writer) {
        let Some(wanted) = wish.change.clone() else { return };
        let named = Wish { by: Some(writer_out(&me)), ..wish };
        if self.put_if(&key, at, named.encode_to_vec()).await == Ok(true) {
            self.tell(News::Claimed { key, wanted }).await;
        }
    }

    /// Writes down what came of it. An operator that is not told finds out by itself.
    pub(super) async fn tell_operator(self: Rc<Self>, key: Vec<u8>, result: MakeChangeResponse) {
        let told = Wish { change: None, by: None, result: Some(result) };
        let put = PutRequest { key, value: told.encode_to_vec() };
        let _ = self.call("put", |mut kv| async move { kv.put(put).await }).await;
    }

    /// Writes a key if it was last changed by that commit (0: is not there); returns whether it was.
    pub(super) async fn put_if(&self, key: &[u8], at: i64, value: Vec<u8>) -> Result<bool, String> {
        self.write_if(key, at, Op::RequestPut(PutRequest { key: key.to_vec(), value })).await
    }

    async fn write_if(&self, key: &[u8], at: i64, write: Op) -> Result<bool, String> {
        let condition = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.to_vec(),
            target_union: Some(TargetUnion::ModRevision(at)),
        };
        let success = vec![RequestOp { request: Some(write) }];
        let message = TxnRequest { compare: vec![condition], success, failure: Vec::new() };
        let answer =
            self.call("transaction", |mut kv| async move { kv.txn(message).await }).await?;
        Ok(answer.succeeded)
    }

    /// What stands under one key.
    pub(super) async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, String> {
        let request = RangeRequest { key: key.to_vec(), ..RangeRequest::default() };
        let answer = self.call("read", |mut kv| async move { kv.range(request).await }).await?;
        Ok(answer.kvs.into_iter().next())
    }

    /// When each process last gave a sign of life.
    pub(super) async fn beats(&self) -> Result<Vec<(Writer, Revision)>, String> {
        let (key, range_end) = self.keys().beats();
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let answer = self.call("read", |mut kv| async move { kv.range(request).await }).await?;
        let beat = |entry: Entry| match (entry.key, entry.value) {
            (Key::Beat(writer), Some(Value::Alive)) => Some((writer, entry.revision)),
            _ => None,
        };
        Ok(self.entries(answer.kvs.iter())?.into_iter().filter_map(beat).collect())
    }

    /// Removes a key.
    pub(super) async fn remove(&self, key: &[u8]) -> Result<(), String> {
        let request = DeleteRangeRequest { key: key.to_vec() };
        self.call("removal", |mut kv| async move { kv.delete_range(request).await }).await.map(drop)
    }

    /// Removes a key if it was last changed by that commit; returns whether it was.
    pub(super) async fn remove_if(&self, key: &[u8], at: i64) -> Result<bool, String> {
        let delete = Op::RequestDeleteRange(DeleteRangeRequest { key: key.to_vec() });
        self.write_if(key, at, delete).await
    }

    fn entries<'a>(&self, found: impl Iterator<Item = &'a KeyValue>) -> Result<Vec<Entry>, String> {
        let mut keys = self.keys();
        let entry = |found: &KeyValue| match keys.entry(found) {
            Ok(entry) => Ok(entry),
            Err(error) => Err(unreadable(found, &error.to_string())),
        };
        let entries = found.map(entry).collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().flatten().collect())
    }
}

fn unreadable(found: &KeyValue, why: &str) -> String {
    format!("etcd has a key {:?} that cannot be read: {why}", String::from_utf8_lossy(&found.key))
}

/// What one question is put to members for at most, each time to another one if there are several.
const COPIES_MOST: usize = 8;

/// Between two members that fail at once.
const PAUSE: Duration = Duration::from_millis(10);

/// A record of 2^20 slots has 2 MiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use hashroute_coordination::{Incarnation, Writer};
    use hashroute_core::PodId;

    use super::*;

    fn writes(key: Key, value: Option<Value>) -> Transaction {
        Transaction { when: Vec::new(), then: vec![(key, value)], otherwise: Vec::new() }
    }

    #[test]
    fn only_what_cannot_take_effect_again_later_is_put_to_several_members() {
        let me = || Writer { pod: PodId::new("pod-a").unwrap(), incarnation: Incarnation(7) };
        let released = Some(Value::Released(Revision(3)));
        for asked in [
            writes(Key::Record, None),
            writes(Key::Intent, None),
            writes(Key::Released(me()), released.clone()),
            writes(Key::Beat(me()), Some(Value::Renounced)),
        ] {
            assert!(asked.is_repeatable(), "{asked:?}");
        }
        let probe = Transaction { then: Vec::new(), ..writes(Key::Record, None) };
        for asked in [
            probe,
            writes(Key::Beat(me()), Some(Value::Alive)),
            // Whatever is written down there: it may have been withdrawn when the copy arrives.
            writes(Key::Intent, released),
        ] {
            assert!(!asked.is_repeatable(), "{asked:?}");
        }
    }
}
