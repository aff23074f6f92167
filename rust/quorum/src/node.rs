//! One process's part in a cluster.
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc as threads;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hashroute_coordination::{Change, Record};
use hashroute_core::{Epoch, PodId};
use tokio::runtime::Builder;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::disk_thread::DiskThread;
use crate::error::{ChangeFailed, StartError};
use crate::etcd::{EtcdShell, EtcdStart, Seat};
use crate::guard::PodGuard;
use crate::operator;
use crate::priority;
use crate::server;
use crate::settings::{Engine, NodeSettings, Priority, SettingsError};
use crate::shared::Shared;
use crate::shell::{Event, Shell, Start, VoterPart};
use crate::snapshot::NodeSnapshot;
use crate::transport;

/// One process's part in a cluster: a voter, a member, both, or a router that follows. Dropping it
/// ends it at once, as a crash would; [`Node::stop`] does it in good order. All methods may be
/// called from any thread.
#[derive(Debug)]
pub struct Node {
    address: Option<String>,
    cluster: String,
    engine: &'static str,
    pod: Option<PodId>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts the thread `hr-quorum` and what it needs. Returns when the address is listened on and
    /// the disk is read, and for a member, when the stalls of the machine were measured for
    /// `stall_check`; the cluster need not be reachable.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub fn start(settings: NodeSettings) -> Result<Self, StartError> {
        settings.check()?;
        let dice = Dice::new()?;
        let pod = settings.pod.as_deref().map(PodId::new).transpose();
        let pod = pod.map_err(SettingsError::from)?;
        for address in &settings.voters {
            transport::endpoint(address, settings.tls.as_ref())?;
        }
        let (events, queue) = mpsc::channel(EVENTS_MOST);
        let (kill, killed) = oneshot::channel();
        let (ready, answer) = threads::sync_channel(1);
        let shared = Arc::new(Shared::new(settings.stale_after));
        let listening = listen(&settings)?;
        let (cluster, engine) = (settings.cluster.clone(), settings.engine.name());
        let (mut voter, mut seat) = (None, None);
        match (&settings.data, &settings.engine) {
            (Some(directory), Engine::Embedded) => {
                let (disk, stored) = Disk::open(directory, &cluster)?;
                let disk = DiskThread::start(disk, settings.priority, events.clone())?;
                voter = Some(VoterPart::new(stored, disk));
            }
            (Some(directory), Engine::Etcd { .. }) => {
                seat = Some(Seat::open(directory, &cluster)?);
            }
            (None, _) => {}
        }
        let address = listening.as_ref().map(|listening| listening.address.clone());
        let launch = Launch {
            settings,
            listening,
            voter,
            seat,
            dice,
            shared: Arc::clone(&shared),
            events: events.clone(),
            queue,
            killed,
            ready,
        };
        let thread = thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || launch.run())
            .map_err(|source| StartError::Thread { name: THREAD, source })?;
        let (kill, thread) = (Some(kill), Some(thread));
        let node = Self { address, cluster, engine, pod, shared, events, kill, thread };
        // A thread that ended without a word has no reason that could be told.
        let ended =
            || StartError::Thread { name: THREAD, source: std::io::ErrorKind::Other.into() };
        answer.recv().map_err(|_| ended())??;
        Ok(node)
    }

    /// The address really listened on: a port of 0 in the settings is one of the system's choice.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The newest record that this process knows to be chosen.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.shared.record()
    }

    /// The same, told whenever another one counts.
    #[must_use]
    pub fn records(&self) -> watch::Receiver<Option<Record>> {
        self.shared.records.subscribe()
    }

    /// Whether no majority of the record's voters was heard for longer than `stale_after`: what is
    /// routed by the record may be old.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.shared.is_stale()
    }

    /// The guard of the pod that this process is the member of.
    #[must_use]
    pub fn guard(&self) -> Option<PodGuard> {
        self.pod.as_ref().map(|_| PodGuard::new(Arc::clone(&self.shared.gate)))
    }

    /// Makes one change of the record, through the own member or a voter, and waits until it is
    /// made.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`].
    pub fn change(&self, change: Change, patience: Duration) -> Result<Epoch, ChangeFailed> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let (reply, answer) = threads::sync_channel(1);
        self.events.try_send(Event::Change { change, reply }).map_err(|_| {
            let reason = "the loop of this process has ended, or too much waits for it".into();
            ChangeFailed::Unreachable { reason }
        })?;
        answer.recv_timeout(patience).map_err(|_| ChangeFailed::Unknown { patience_ms })?
    }

    /// As [`Node::change`], for a document as [`crate::Operator::change`] takes it. A voter is only
    /// replaced by an operator.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`], also if no record is known yet.
    pub fn change_json(&self, change: &str, patience: Duration) -> Result<Epoch, ChangeFailed> {
        let Some(record) = self.record() else {
            let reason = "this process knows no record yet: found the cluster with \
                          `hashroute quorum init`, or see why it reaches no voter";
            return Err(ChangeFailed::Unreachable { reason: reason.into() });
        };
        self.change(operator::read_change(change, &record)?, patience)
    }

    /// Gives up in good order what the own pod owns: no write is refused for longer than a round.
    /// The process stays a member and owns nothing until it starts again.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`].
    pub fn drain(&self, patience: Duration) -> Result<Epoch, ChangeFailed> {
        let Some(pod) = self.pod.clone() else {
            let (code, message) = ("no_pod".into(), "this process is the member of no pod".into());
            return Err(ChangeFailed::Told { code, message });
        };
        self.change(Change::Drain(pod), patience)
    }

    /// All figures of this moment.
    #[must_use]
    pub fn snapshot(&self) -> NodeSnapshot {
        let (reply, answer) = threads::sync_channel(1);
        let asked = self.events.try_send(Event::Figures { reply }).is_ok();
        let figures = asked.then(|| answer.recv_timeout(FIGURES_PATIENCE).ok()).flatten();
        figures.map_or_else(|| self.silent(), |figures| figures.snapshot())
    }

    /// Ends in good order: admits nothing more, waits for the writes under way for at most `grace`,
    /// renounces, and stops. Returns whether all of them ended in time; if not, nothing is
    /// renounced, and the lease runs out.
    #[must_use]
    pub fn stop(self, grace: Duration) -> bool {
        let (reply, answer) = threads::sync_channel(1);
        let mut event = Event::Stop { grace, reply };
        // Whoever calls may be a task of an event loop: so nothing here may be one that blocks.
        while let Err(error) = self.events.try_send(event) {
            let TrySendError::Full(again) = error else { return false };
            event = again;
            thread::park_timeout(FULL_QUEUE_WAIT);
        }
        answer.recv().unwrap_or(false)
    }

    /// What can be said when the loop does not answer.
    fn silent(&self) -> NodeSnapshot {
        NodeSnapshot {
            cluster: self.cluster.clone(),
            engine: self.engine,
            epoch: self.record().map_or(0, |record| record.epoch().get()),
            is_stale: self.is_stale(),
            warnings: vec![format!(
                "the thread that keeps the lease did not answer within {} ms: the machine is \
                 overloaded, or it has ended",
                FIGURES_PATIENCE.as_millis()
            )],
            ..NodeSnapshot::default()
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.gate.die();
        self.kill = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread starts with.
struct Launch {
    settings: NodeSettings,
    listening: Option<Listening>,
    voter: Option<VoterPart>,
    /// The voter, with the engine on etcd.
    seat: Option<Seat>,
    dice: Dice,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    queue: mpsc::Receiver<Event>,
    killed: oneshot::Receiver<()>,
    ready: threads::SyncSender<Result<(), StartError>>,
}

impl Launch {
    fn run(self) {
        let priority = match self.settings.priority {
            Priority::Ordinary => Ok(false),
            Priority::Realtime => {
                priority::ask_for_realtime().map(|()| true).map_err(|error| error.to_string())
            }
        };
        match Builder::new_current_thread().enable_all().max_blocking_threads(HELPERS_MOST).build()
        {
            Ok(runtime) => runtime.block_on(self.serve_and_run(priority)),
            Err(source) => {
                let _ = self.ready.send(Err(StartError::Thread { name: THREAD, source }));
            }
        }
    }

    async fn serve_and_run(self, priority: Result<bool, String>) {
        let Self { settings, listening, voter, seat, dice, shared, events, queue, killed, ready } =
            self;
        let mut address = String::new();
        if let Some(Listening { listener, address: bound, reached_by }) = listening {
            let tls = settings.tls.as_ref();
            if let Err(error) = server::serve(listener, &bound, tls, events.clone()) {
                let _ = ready.send(Err(error));
                return;
            }
            address = reached_by;
        }
        if let Engine::Etcd { endpoints, prefix, .. } = &settings.engine {
            let connect = |address: &String| {
                let endpoint = transport::endpoint(address, settings.tls.as_ref())?;
                Ok((address.clone(), endpoint))
            };
            let endpoints = match endpoints.iter().map(connect).collect::<Result<_, StartError>>() {
                Ok(endpoints) => endpoints,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let prefix = prefix.clone();
            let start = EtcdStart {
                settings,
                endpoints,
                prefix,
                address,
                seat,
                shared,
                events,
                dice,
                ready,
                priority,
            };
            EtcdShell::run(start, queue, killed).await;
            return;
        }
        let start = Start { settings, address, shared, events, voter, dice, ready, priority };
        Shell::new(start).run(queue, killed).await;
    }
}

/// A voter's socket.
struct Listening {
    listener: TcpListener,
    /// What it is bound to.
    address: String,
    /// How others reach it.
    reached_by: String,
}

fn listen(settings: &NodeSettings) -> Result<Option<Listening>, StartError> {
    let Some(wanted) = &settings.listen else { return Ok(None) };
    let failed = |source| StartError::Listen { address: wanted.clone(), source };
    let listener = TcpListener::bind(wanted.as_str()).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let host = wanted.rsplit_once(':').map_or(wanted.as_str(), |(host, _)| host);
    let address = format!("{host}:{port}");
    let reached_by = settings.advertise.clone().unwrap_or_else(|| address.clone());
    Ok(Some(Listening { listener, address, reached_by }))
}

const THREAD: &str = "hr-quorum";

/// Ordinary threads that resolve names and write snapshots out.
const HELPERS_MOST: usize = 4;

/// Things that happened and wait for the loop. Whoever adds to a full queue waits, which is felt
/// at the other end of its connection.
const EVENTS_MOST: usize = 1_024;

/// Between two tries to add to a full queue.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(1);

/// The loop answers within this, or a snapshot goes without it.
const FIGURES_PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
