//! A process that answers as a voter does and decides nothing.
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::BoxStream;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::CLUSTER;
use crate::proto;
use crate::proto::quorum_server::{Quorum, QuorumServer};

/// What a fake voter says of itself, and what it was told. Tests change it while it runs.
#[derive(Debug, Default)]
pub(crate) struct Says {
    pub(crate) cluster: String,
    pub(crate) voter_id: Vec<u8>,
    pub(crate) record: Option<proto::Record>,
    /// What it answers to a founding.
    pub(crate) refuses: Option<Status>,
    /// What it answers to a change; none: nothing at all, ever.
    pub(crate) made: Option<Result<proto::MakeChangeResponse, Status>>,
    pub(crate) described: usize,
    pub(crate) founded: usize,
    pub(crate) changes: Vec<proto::RecordChange>,
}

/// Ends when it is dropped.
pub(crate) struct FakeVoter {
    pub(crate) address: String,
    pub(crate) says: Arc<Mutex<Says>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeVoter {
    /// A voter of this id, or a process that does not vote.
    pub(crate) fn start(id: Option<u128>) -> Self {
        Self::with_tls(id, None)
    }

    pub(crate) fn with_tls(id: Option<u128>, tls: Option<ServerTlsConfig>) -> Self {
        let voter_id = id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
        let says = Says { cluster: CLUSTER.to_owned(), voter_id, ..Says::default() };
        let says = Arc::new(Mutex::new(says));
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let service = QuorumServer::new(Service(says.clone()));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut server = Server::builder();
                if let Some(tls) = tls {
                    server = server.tls_config(tls).unwrap();
                }
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let served = server
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    served = served => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address, says, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }
}

impl Drop for FakeVoter {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Service(Arc<Mutex<Says>>);

#[tonic::async_trait]
impl Quorum for Service {
    type AttendStream = BoxStream<proto::AttendResponse>;
    type FollowStream = BoxStream<proto::FollowResponse>;

    async fn attend(
        &self,
        _request: Request<Streaming<proto::AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn follow(
        &self,
        _request: Request<proto::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("a fake"))
    }

    async fn describe(
        &self,
        _request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let mut says = self.0.lock().unwrap();
        says.described += 1;
        Ok(Response::new(proto::DescribeResponse {
            version: proto::Version::Version1.into(),
            cluster: says.cluster.clone(),
            voter_id: says.voter_id.clone(),
            record: says.record.clone(),
            snapshot: "{}".to_owned(),
            ..Default::default()
        }))
    }

    async fn found(
        &self,
        request: Request<proto::FoundRequest>,
    ) -> Result<Response<proto::FoundResponse>, Status> {
        let mut says = self.0.lock().unwrap();
        says.founded += 1;
        if let Some(status) = &says.refuses {
            return Err(status.clone());
        }
        says.record = request.into_inner().record;
        Ok(Response::new(proto::FoundResponse {}))
    }

    async fn make_change(
        &self,
        request: Request<proto::MakeChangeRequest>,
    ) -> Result<Response<proto::MakeChangeResponse>, Status> {
        let made = {
            let mut says = self.0.lock().unwrap();
            says.changes.extend(request.into_inner().change);
            says.made.clone()
        };
        match made {
            Some(answer) => answer.map(Response::new),
            None => std::future::pending().await,
        }
    }
}
