//! What a client is told by etcd without asking each time: all that stands there, then what changes.
use std::rc::Rc;
use std::time::Duration;

use hashroute_coordination::{Entry, RegisterEvent};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::Channel;

use super::{Client, MESSAGE_BYTES_MAX, News};
use crate::etcd::keys::revision;
use crate::etcd::proto::event::EventType;
use crate::etcd::proto::kv_client::KvClient;
use crate::etcd::proto::watch_client::WatchClient;
use crate::etcd::proto::watch_request::RequestUnion;
use crate::etcd::proto::{
    KeyValue, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::proto::Wish;

impl Client {
    /// Reads everything, then tells what changes, for ever; reads everything again when the watch
    /// breaks, was compacted away, or has fallen behind.
    pub(in crate::etcd) async fn follow(self: Rc<Self>) {
        loop {
            let earliest = Instant::now() + WATCH_PAUSE;
            if let Err(trouble) = self.look_and_watch().await {
                self.tell(News::Trouble(trouble)).await;
            }
            if self.news.is_closed() {
                return;
            }
            // A watch that was good for a while is followed by the next one at once.
            sleep_until(earliest).await;
        }
    }

    async fn look_and_watch(self: &Rc<Self>) -> Result<(), String> {
        let (member, at) = self.look().await?;
        let watched = self.watch(member, at).await;
        if watched.is_err() {
            self.members.failed(member);
        }
        watched
    }

    /// Tells what changes after the commit `at`, as one member sees it.
    async fn watch(self: &Rc<Self>, member: usize, mut at: i64) -> Result<(), String> {
        let (key, range_end) = self.keys().range();
        let start_revision = at.saturating_add(1);
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: false };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let address = self.members.address(member);
        let channel = self.members.channel(member).ok_or("no endpoints of etcd")?;
        // The stream of requests must outlive the watch: its end would end that.
        let (hold, requests) = mpsc::channel(1);
        hold.send(request).await.map_err(|error| error.to_string())?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        // It has just answered to a read.
        let watching = timeout(self.patience.late * 2, client.watch(requests)).await;
        let watching = watching.map_err(|_| format!("etcd {address}: watch: no answer"))?;
        let mut stream = watching
            .map_err(|status| format!("etcd {address}: watch: {}", status.message()))?
            .into_inner();
        let (mut silence, mut is_behind) = (self.patience.late, false);
        loop {
            match timeout(silence, stream.message()).await {
                Ok(Ok(Some(response))) => {
                    (silence, is_behind) = (self.patience.late, false);
                    at = self.changed(member, response).await?.unwrap_or(at);
                }
                Ok(Ok(None)) => return Err(format!("etcd {address}: the watch ended")),
                Ok(Err(status)) => {
                    return Err(format!("etcd {address}: watch: {}", status.message()));
                }
                // Silence: of a quiet cluster, or of a member that is cut off from the others.
                Err(_) => {
                    let was_behind = is_behind;
                    is_behind = self.is_behind(member, at).await?;
                    // What is new may be under way; not when nothing has come since the last time.
                    if was_behind && is_behind {
                        return Err(format!("etcd {address}: the watch has fallen behind"));
                    }
                    if !is_behind {
                        silence = (silence * 2).min(self.patience.most);
                    }
                }
            }
        }
    }

    /// Reads everything; returns who has answered, and the revision at which it was so.
    async fn look(self: &Rc<Self>) -> Result<(usize, i64), String> {
        let (member, response) = self.range(false).await?;
        let at = response.header.map_or(0, |header| header.revision);
        let entries = self.entries(response.kvs.iter())?;
        self.tell_wishes(response.kvs.iter()).await;
        self.tell(News::Told(RegisterEvent::Read { revision: revision(at), entries })).await;
        Ok((member, at))
    }

    /// Asks, past the watch, whether something changed that it did not tell.
    async fn is_behind(self: &Rc<Self>, watched: usize, at: i64) -> Result<bool, String> {
        let (member, response) = self.range(true).await?;
        if member != watched {
            let (late, other) = (self.members.address(watched), self.members.address(member));
            return Err(format!("etcd {late}: no answer, but {other} has given one"));
        }
        Ok(response.kvs.iter().any(|found| found.mod_revision > at))
    }

    /// Reads the cluster's keys, as a majority of etcd has them.
    async fn range(self: &Rc<Self>, keys_only: bool) -> Result<(usize, RangeResponse), String> {
        let (key, range_end) = self.keys().range();
        let request = RangeRequest { key, range_end, keys_only, ..RangeRequest::default() };
        let started = crate::clock::now();
        let read = move |mut kv: KvClient<Channel>| {
            let request = request.clone();
            async move { kv.range(request).await }
        };
        let found = self.insist("read", |_| true, read).await?;
        self.tell(News::Answered(crate::clock::now().saturating_sub(started))).await;
        Ok(found)
    }

    /// Tells what a watch says, commit by commit; returns the last one.
    pub(in crate::etcd) async fn changed(
        &self,
        member: usize,
        response: WatchResponse,
    ) -> Result<Option<i64>, String> {
        if response.canceled {
            let reason = match response.compact_revision {
                0 => response.cancel_reason,
                compacted => format!("what it was to begin with was compacted away at {compacted}"),
            };
            let address = self.members.address(member);
            return Err(format!("etcd {address}: the watch was ended: {reason}"));
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
}

/// Watches begin at least so long after one another.
const WATCH_PAUSE: Duration = Duration::from_millis(50);
