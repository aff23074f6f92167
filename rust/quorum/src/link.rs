//! One process's conversation with one voter, kept up for as long as it is wanted.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::outbox::{Outbox, outbox};
use crate::proto;
use crate::proto::quorum_client::QuorumClient;
use crate::shell::Event;
use crate::transport::explained;
use crate::wire::MESSAGE_BYTES_MAX;

/// What is said first, and so what the conversation is.
#[derive(Clone, Debug)]
pub(crate) enum Opening {
    /// A member's.
    Attend(proto::Hello),
    /// A router's.
    Follow(proto::FollowRequest),
}

/// What became of a conversation.
#[derive(Debug)]
pub(crate) enum News {
    /// The voter accepted it. What is put into the outbox is sent; a follower says nothing.
    Open { channel: Channel, outbox: Option<Outbox<proto::AttendRequest>> },
    /// The voter said this to a member.
    Attended(Box<proto::AttendResponse>),
    /// The voter said this to a router.
    Followed(Box<proto::FollowResponse>),
    /// It ended, or did not begin. Another one follows by itself.
    Broken { reason: String },
}

/// Whom to talk to, and about what.
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) endpoint: Endpoint,
    /// May change between two conversations.
    pub(crate) opening: Arc<Mutex<Opening>>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Whether what came this way before made no sense: then it begins later.
    pub(crate) is_distrusted: bool,
}

impl Link {
    /// Converses, again and again, until the task is ended.
    pub(crate) async fn keep(self) {
        let mut wait = WAIT_LEAST;
        if self.is_distrusted {
            sleep(WAIT_REFUSED).await;
        }
        loop {
            let ending = self.converse().await;
            wait = if ending.was_open { WAIT_LEAST } else { (wait * 2).min(WAIT_MOST) };
            if ending.is_refused {
                wait = WAIT_REFUSED;
            }
            let reason = ending.reason;
            self.tell(News::Broken { reason }).await;
            sleep(wait).await;
        }
    }

    async fn converse(&self) -> Ending {
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let channel = match timeout(ANSWER_MOST, self.endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Ending::before(explained(&error, self.has_tls())),
            Err(_) => return Ending::before(no_answer()),
        };
        let client = QuorumClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match opening {
            Opening::Attend(hello) => self.attend(client, channel, hello).await,
            Opening::Follow(request) => self.follow(client, channel, request).await,
        }
    }

    async fn attend(
        &self,
        mut client: QuorumClient<Channel>,
        channel: Channel,
        hello: proto::Hello,
    ) -> Ending {
        let (outbox, stream) = outbox(WAITING_MOST);
        let message = Some(proto::attend_request::Message::Hello(hello));
        outbox.push(proto::AttendRequest { message });
        let mut answers = match timeout(ANSWER_MOST, client.attend(stream)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return self.refused(&status),
            Err(_) => return Ending::before(no_answer()),
        };
        self.tell(News::Open { channel, outbox: Some(outbox) }).await;
        loop {
            match timeout(SILENCE_MOST, answers.message()).await {
                Ok(Ok(Some(message))) => self.tell(News::Attended(Box::new(message))).await,
                other => return Ending::after(other),
            }
        }
    }

    async fn follow(
        &self,
        mut client: QuorumClient<Channel>,
        channel: Channel,
        request: proto::FollowRequest,
    ) -> Ending {
        let mut answers = match timeout(ANSWER_MOST, client.follow(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return self.refused(&status),
            Err(_) => return Ending::before(no_answer()),
        };
        self.tell(News::Open { channel, outbox: None }).await;
        loop {
            match timeout(SILENCE_MOST, answers.message()).await {
                Ok(Ok(Some(message))) => self.tell(News::Followed(Box::new(message))).await,
                other => return Ending::after(other),
            }
        }
    }

    /// A status with a source was made here, out of what became of the connection.
    fn refused(&self, status: &Status) -> Ending {
        match std::error::Error::source(status) {
            Some(cause) => Ending::before(explained(cause, self.has_tls())),
            None => Ending::refused(status),
        }
    }

    fn has_tls(&self) -> bool {
        self.endpoint.uri().scheme_str() == Some("https")
    }

    async fn tell(&self, news: News) {
        // The loop is gone only when the whole process's part is: then this task is, too.
        let _ = self.events.send(Event::Link { number: self.number, news }).await;
    }
}

/// How a conversation ended.
struct Ending {
    reason: String,
    was_open: bool,
    /// Whether the voter said no: asking again at once would bring the same answer.
    is_refused: bool,
}

impl Ending {
    fn before(reason: String) -> Self {
        Self { reason, was_open: false, is_refused: false }
    }

    fn refused(status: &Status) -> Self {
        let is_refused = !matches!(
            status.code(),
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown
        );
        Self { reason: status.message().to_owned(), was_open: false, is_refused }
    }

    fn after<T>(last: Result<Result<Option<T>, Status>, tokio::time::error::Elapsed>) -> Self {
        match last {
            Ok(Err(status)) => Self { was_open: true, ..Self::refused(&status) },
            Ok(Ok(_)) => Self {
                reason: "the voter ended the conversation".into(),
                was_open: true,
                is_refused: false,
            },
            Err(_) => Self {
                reason: format!("the voter was silent for {} ms", SILENCE_MOST.as_millis()),
                was_open: true,
                is_refused: false,
            },
        }
    }
}

fn no_answer() -> String {
    format!("no answer within {} ms", ANSWER_MOST.as_millis())
}

/// Messages that may wait on one conversation. Past it the oldest is dropped: the protocol bears
/// loss, and the newest is worth most.
pub(crate) const WAITING_MOST: usize = 64;

/// A connection and the first answer come within this, or are tried again. Short, so that a voter
/// that can be reached again is soon talked to again.
const ANSWER_MOST: Duration = Duration::from_millis(500);

/// A voter says something ten times a second. After such a silence a new connection is tried: the
/// old one may take as long to recover from a cut as the cut lasted.
const SILENCE_MOST: Duration = Duration::from_secs(1);

/// The first wait before another try; it doubles to [`WAIT_MOST`].
const WAIT_LEAST: Duration = Duration::from_millis(20);
const WAIT_MOST: Duration = Duration::from_millis(250);

/// The wait after a voter said no.
const WAIT_REFUSED: Duration = Duration::from_secs(1);
