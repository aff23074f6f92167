//! What is said to etcd, and what it answers.
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashroute_coordination::{
    Entry, Key, RegisterEvent, Request, Revision, Transaction, Value, Writer,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::keys::{Keys, revision};
use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::event::EventType;
use super::proto::kv_client::KvClient;
use super::proto::request_op::Request as Op;
use super::proto::response_op::Response as Answer;
use super::proto::watch_client::WatchClient;
use super::proto::watch_request::RequestUnion;
use super::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
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

/// A client of one etcd cluster. It talks to one member of it, and to another one when that fails.
#[derive(Debug)]
pub(super) struct Client {
    channels: Vec<(String, Channel)>,
    present: AtomicUsize,
    keys: Mutex<Keys>,
    patience: Duration,
    news: mpsc::Sender<News>,
}

impl Client {
    /// Connects when it is needed.
    pub(super) fn new(
        endpoints: Vec<(String, Endpoint)>,
        keys: Keys,
        patience: Duration,
        news: mpsc::Sender<News>,
    ) -> Self {
        let connect = |(address, endpoint): (String, Endpoint)| (address, endpoint.connect_lazy());
        let channels = endpoints.into_iter().map(connect).collect();
        Self { channels, present: AtomicUsize::new(0), keys: Mutex::new(keys), patience, news }
    }

    /// Where the next call goes.
    pub(super) fn address(&self) -> &str {
        self.channels.get(self.present()).map_or("", |(address, _)| address)
    }

    fn present(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// The names of the keys. Not to be held while anything is waited for.
    pub(super) fn keys(&self) -> MutexGuard<'_, Keys> {
        // What they are does not change, and what they remember is whole at any time.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self) -> Option<Channel> {
        Some(self.channels.get(self.present())?.1.clone())
    }

    /// The next call goes to another member, unless somebody saw to that already.
    fn turn_away_from(&self, failed: usize) {
        if self.present() == failed && !self.channels.is_empty() {
            let next = (failed + 1) % self.channels.len();
            self.present.store(next, Ordering::Relaxed);
        }
    }

    /// Calls with patience; a call that fails turns to another member.
    async fn call<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        what: &'static str,
        call: impl FnOnce(KvClient<Channel>) -> F,
    ) -> Result<T, String> {
        let present = self.present();
        let channel = self.channel().ok_or_else(|| "no endpoints of etcd".to_owned())?;
        let failed = match timeout(
            self.patience,
            call(KvClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)),
        )
        .await
        {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => format!("no answer within {} ms", self.patience.as_millis()),
        };
        let address = self.address().to_owned();
        self.turn_away_from(present);
        Err(format!("etcd {address}: {what}: {failed}"))
    }

    async fn tell(&self, news: News) {
        // A closed channel is a loop that is over.
        let _ = self.news.send(news).await;
    }

    /// Puts a transaction to etcd and tells what came of it. It is never repeated here: the member
    /// knows better what is worth saying again.
    pub(super) async fn transact(self: Rc<Self>, request: Request, asked: Transaction) {
        let message = self.message(&asked);
        let started = crate::clock::now();
        match self.call("transaction", |mut kv| async move { kv.txn(message).await }).await {
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

    /// Reads everything, then tells what changes, for ever; reads everything again when the watch
    /// breaks, was compacted away, or has fallen behind.
    pub(super) async fn follow(self: Rc<Self>) {
        loop {
            let present = self.present();
            if let Err(trouble) = self.look_and_watch().await {
                self.tell(News::Trouble(trouble)).await;
            }
            self.turn_away_from(present);
            if self.news.is_closed() {
                return;
            }
            sleep(WATCH_PAUSE).await;
        }
    }

    async fn look_and_watch(&self) -> Result<(), String> {
        let (key, range_end) = self.keys().range();
        let mut at = self.look(key.clone(), range_end.clone()).await?;
        let start_revision = at.saturating_add(1);
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: false };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let channel = self.channel().ok_or_else(|| "no endpoints of etcd".to_owned())?;
        // The stream of requests must outlive the watch: its end would end that.
        let (hold, requests) = mpsc::channel(1);
        hold.send(request).await.map_err(|error| error.to_string())?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let watching = timeout(self.patience, client.watch(requests)).await;
        let watching =
            watching.map_err(|_| format!("etcd {}: watch: no answer", self.address()))?;
        let mut stream = watching
            .map_err(|status| format!("etcd {}: watch: {}", self.address(), status.message()))?
            .into_inner();
        loop {
            match timeout(self.patience, stream.message()).await {
                Ok(Ok(Some(response))) => at = self.changed(response).await?.unwrap_or(at),
                Ok(Ok(None)) => return Err(format!("etcd {}: the watch ended", self.address())),
                Ok(Err(status)) => {
                    return Err(format!("etcd {}: watch: {}", self.address(), status.message()));
                }
                // Silence: of a quiet cluster, or of a member that is cut off from the others.
                Err(_) => self.check_watch(at).await?,
            }
        }
    }

    /// Reads everything; returns the revision at which it was so.
    async fn look(&self, key: Vec<u8>, range_end: Vec<u8>) -> Result<i64, String> {
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let started = crate::clock::now();
        let response = self.call("read", |mut kv| async move { kv.range(request).await }).await?;
        self.tell(News::Answered(crate::clock::now().saturating_sub(started))).await;
        let at = response.header.map_or(0, |header| header.revision);
        let entries = self.entries(response.kvs.iter())?;
        self.tell_wishes(response.kvs.iter()).await;
        self.tell(News::Told(RegisterEvent::Read { revision: revision(at), entries })).await;
        Ok(at)
    }

    /// Asks, past the watch, whether something changed that it did not tell.
    async fn check_watch(&self, at: i64) -> Result<(), String> {
        let (key, range_end) = self.keys().range();
        let request = RangeRequest { key, range_end, keys_only: true, ..RangeRequest::default() };
        let started = crate::clock::now();
        let response = self.call("read", |mut kv| async move { kv.range(request).await }).await?;
        self.tell(News::Answered(crate::clock::now().saturating_sub(started))).await;
        if response.kvs.iter().any(|found| found.mod_revision > at) {
            return Err(format!("etcd {}: the watch has fallen behind", self.address()));
        }
        Ok(())
    }

    /// Tells what a watch says, commit by commit; returns the last one.
    pub(super) async fn changed(&self, response: WatchResponse) -> Result<Option<i64>, String> {
        if response.canceled {
            let reason = match response.compact_revision {
                0 => response.cancel_reason,
                compacted => format!("what it was to begin with was compacted away at {compacted}"),
            };
            return Err(format!("etcd {}: the watch was ended: {reason}", self.address()));
        }
        let mut events = response.events.into_iter().peekable();
        let mut last = None;
        while let Some(at) = events.peek().and_then(|it| it.kv.as_ref()).map(|it| it.mod_revision) {
            let mut entries = Vec::new();
            while let Some(event) = events
                .next_if(|event| event.kv.as_ref().is_none_or(|found| found.mod_revision == at))
            {
                let is_delete = event.r#type() == EventType::Delete;
                let Some(found) = event.kv else { continue };
                if is_delete {
                    let key = self.keys().key(&found.key);
                    let gone = |key| Entry { key, revision: revision(at), value: None };
                    entries.extend(key.map(gone));
                } else {
                    entries.extend(self.entries(std::iter::once(&found))?);
                    self.tell_wishes(std::iter::once(&found)).await;
                }
            }
            last = Some(at);
            self.tell(News::Told(RegisterEvent::Changed { entries })).await;
        }
        Ok(last)
    }

    async fn tell_wishes<'a>(&self, found: impl Iterator<Item = &'a KeyValue>) {
        for found in found {
            let is_wish = self.keys().is_wish(&found.key);
            if is_wish && let Ok(wish) = Wish::decode(&found.value[..]) {
                let (key, at) = (found.key.clone(), found.mod_revision);
                self.tell(News::Wish { key, at, wish }).await;
            }
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

/// Before the watch begins again.
const WATCH_PAUSE: Duration = Duration::from_millis(50);

/// A record of 2^20 slots has 2 MiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
