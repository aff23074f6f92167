//! A running sidecar: its threads, from start to stop.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashroute_quorum::{Node, NodeSettings};
use serde::Serialize;

use crate::clock::Heartbeat;
use crate::error::{ApplyError, StartError};
use crate::following::{self, Following};
use crate::grpc;
use crate::prober::{ProbeSubject, Prober};
use crate::quorum::{Quorum, WriteGuard};
use crate::routing::Routing;
use crate::settings::{GuardSettings, ListenSettings, Settings, SettingsError};
use crate::shared::Shared;
use crate::snapshot::{self, Snapshot};
use crate::threads::{Drain, LoopThread};
use crate::zmq;

/// A running sidecar. Dropping it ends its threads at once; [`Sidecar::stop`] does it with grace.
#[derive(Debug)]
pub struct Sidecar {
    // In the order in which they are to end when they are dropped.
    loops: Vec<Loop>,
    following: Option<Following>,
    prober: Prober,
    shared: Arc<Shared>,
    asked: Asked,
    bound: Addresses,
    /// This process's own part in the quorum.
    node: Option<Arc<Node>>,
}

/// A thread that moves bytes.
#[derive(Debug)]
struct Loop {
    name: &'static str,
    beat: Arc<Heartbeat>,
    thread: LoopThread,
}

/// What is fixed for the life of a sidecar, as it was asked for.
#[derive(Debug)]
struct Asked {
    listen: ListenSettings,
    guard: Option<GuardSettings>,
    quorum: Option<NodeSettings>,
}

/// The addresses really listened on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// `host:port` for gRPC, or none.
    pub grpc: Option<String>,
    /// `tcp://host:port` for ZeroMQ, or none.
    pub zmq: Option<String>,
    /// `host:port` of the own voter, or none.
    pub quorum: Option<String>,
    /// `host:port` of the guard for gRPC, or none.
    pub guard_grpc: Option<String>,
    /// `tcp://host:port` of the guard for ZeroMQ, or none.
    pub guard_zmq: Option<String>,
}

impl Sidecar {
    /// Listens, and starts the threads; with `quorum` in the settings also this process's part in
    /// it. A pod or a voter that cannot be reached is not an error: it is retried for ever.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the settings cannot be used or an address cannot be listened on; nothing
    /// is left running.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let is_member = settings.quorum.as_ref().is_some_and(|quorum| quorum.pod.is_some());
        if settings.guard.is_some() && !is_member {
            return Err(guards_nothing().into());
        }
        Self::start_all(settings, |settings| {
            let node = settings.cloned().map(Node::start).transpose()?.map(Arc::new);
            Ok((node.clone().map(|node| node as Arc<dyn Quorum>), node))
        })
    }

    /// The same for a process that takes part in the quorum already: the record, the lease and
    /// their end are the host's business. `quorum` of the settings is not looked at.
    ///
    /// # Errors
    ///
    /// As [`Sidecar::start`].
    pub fn start_with(settings: Settings, quorum: Arc<dyn Quorum>) -> Result<Self, StartError> {
        Self::start_all(settings, |_| Ok((Some(quorum), None)))
    }

    fn start_all(
        settings: Settings,
        join: impl FnOnce(Option<&NodeSettings>) -> Result<Part, StartError>,
    ) -> Result<Self, StartError> {
        let asked = Asked {
            listen: settings.listen.clone(),
            guard: settings.guard.clone(),
            quorum: settings.quorum.clone(),
        };
        let limits = settings.limits;
        let routing = Routing::new(settings.check()?);
        let mut bound = Addresses::default();
        // All sockets before any thread: what fails, fails before anything runs, or has joined.
        let doors = Doors::open(&asked, &mut bound)?;
        let (quorum, node) = join(asked.quorum.as_ref())?;
        bound.quorum = node.as_ref().and_then(|node| node.address().map(str::to_owned));
        let guard = quorum.as_ref().and_then(|quorum| quorum.guard());
        if asked.guard.is_some() && guard.is_none() {
            return Err(guards_nothing().into());
        }
        let shared = Arc::new(Shared::new(routing, limits, quorum));
        let quorum = shared.quorum.as_ref();
        let following = quorum.map(|quorum| Following::spawn(&shared, quorum)).transpose();
        let following = following.map_err(thread_error(following::THREAD))?;
        let loops = doors.serve(&shared, &asked, guard)?;
        let subject: Arc<dyn ProbeSubject> = Arc::clone(&shared) as _;
        let beat = Arc::clone(&shared.heartbeats.probe);
        let prober = Prober::spawn(subject, shared.clock, beat)
            .map_err(thread_error(crate::prober::THREAD))?;
        Ok(Self { loops, following, prober, shared, asked, bound, node })
    }

    /// The addresses really listened on: a port of 0 in the settings is a port of the system's
    /// choice here.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.bound
    }

    /// This process's own part in the quorum, if the settings gave it one.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// Replaces view, routes, health, load and retry rules at once; in a quorum all but the view,
    /// which is the record's. Requests under way keep what they began with.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] if the settings cannot be used, or change what is fixed; then nothing
    /// changes.
    pub fn apply(&self, settings: Settings) -> Result<(), ApplyError> {
        fixed("listen.grpc", &self.asked.listen.grpc, &settings.listen.grpc)?;
        fixed("listen.zmq", &self.asked.listen.zmq, &settings.listen.zmq)?;
        fixed("limits", &self.shared.limits, &settings.limits)?;
        fixed("guard", &self.asked.guard, &settings.guard)?;
        fixed_quorum(self.asked.quorum.as_ref(), settings.quorum.as_ref())?;
        self.shared.apply(|ring| Ok(settings.check_after(ring)?))
    }

    /// Returns all figures of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (now, beats) = (self.shared.clock.now(), &self.shared.heartbeats);
        let mut ages = BTreeMap::from([("probe", beats.probe.age_ms(now))]);
        if self.following.is_some() {
            ages.insert("record", beats.record.age_ms(now));
        }
        ages.extend(self.loops.iter().map(|one| (one.name, one.beat.age_ms(now))));
        snapshot::take(&self.shared, ages, self.asked.guard.is_some())
    }

    /// Gives up in good order what the own pod writes, takes nothing new, tells the clients so,
    /// finishes what is in flight, and ends. Returns whether all of it finished within `grace`;
    /// what did not is cut off.
    #[must_use]
    pub fn stop(self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        if let Some(node) = &self.node
            && node.guard().is_some()
        {
            // If it cannot be handed over in good order, the lease that runs out hands it over.
            let _not_drained = node.drain(DRAIN_PATIENCE_MAX.min(grace / 2));
        }
        for one in &self.loops {
            one.thread.drain();
        }
        let mut finished = true;
        for one in self.loops {
            finished &= one.thread.join(deadline);
        }
        self.prober.stop();
        if let Some(following) = self.following {
            following.stop();
        }
        // The threads are gone, and with them everybody else who held the node.
        drop(self.shared);
        let node = self.node.and_then(Arc::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        node.is_none_or(|node| node.stop(left)) && finished
    }
}

/// The sockets of a sidecar, before anybody serves them.
struct Doors {
    grpc: Option<grpc::Listener>,
    zmq: Option<zmq::Listener>,
    guard_grpc: Option<grpc::Listener>,
    guard_zmq: Option<zmq::Listener>,
}

impl Doors {
    fn open(asked: &Asked, bound: &mut Addresses) -> Result<Self, StartError> {
        let guard = asked.guard.as_ref();
        let grpc = |key, address: Option<&String>| {
            address.map(|address| grpc::Listener::bind(key, address)).transpose()
        };
        let zmq = |key, address: Option<&String>| {
            address.map(|address| zmq::Listener::bind(key, address)).transpose()
        };
        let guarded_grpc = guard.and_then(|guard| guard.grpc.as_ref()).map(|door| &door.listen);
        let guarded_zmq = guard.and_then(|guard| guard.zmq.as_ref()).map(|door| &door.listen);
        let doors = Self {
            grpc: grpc("listen.grpc", asked.listen.grpc.as_ref())?,
            zmq: zmq("listen.zmq", asked.listen.zmq.as_ref())?,
            guard_grpc: grpc("guard.grpc", guarded_grpc)?,
            guard_zmq: zmq("guard.zmq", guarded_zmq)?,
        };
        bound.grpc = doors.grpc.as_ref().map(grpc::Listener::address);
        bound.zmq = doors.zmq.as_ref().map(zmq::Listener::address);
        bound.guard_grpc = doors.guard_grpc.as_ref().map(grpc::Listener::address);
        bound.guard_zmq = doors.guard_zmq.as_ref().map(zmq::Listener::address);
        Ok(doors)
    }

    /// Starts a thread for each socket.
    fn serve(
        self,
        shared: &Arc<Shared>,
        asked: &Asked,
        guard: Option<Arc<dyn WriteGuard>>,
    ) -> Result<Vec<Loop>, StartError> {
        let mut loops = Vec::new();
        let beats = &shared.heartbeats;
        if let Some(listener) = self.grpc {
            let state = Arc::clone(shared);
            loops.push(Loop::start("grpc", GRPC_THREAD, shared, &beats.grpc, |drain| {
                grpc::serve(listener, state, grpc::Role::Router, drain)
            })?);
        }
        if let Some(listener) = self.zmq {
            let state = Arc::clone(shared);
            loops.push(Loop::start("zmq", ZMQ_THREAD, shared, &beats.zmq, |drain| {
                zmq::serve(listener, state, zmq::Role::Router, drain)
            })?);
        }
        let (Some(settings), Some(guard)) = (&asked.guard, guard) else { return Ok(loops) };
        if let (Some(listener), Some(door)) = (self.guard_grpc, &settings.grpc) {
            let (state, service) = (Arc::clone(shared), door.service.clone());
            let (guard, untagged) = (Arc::clone(&guard), settings.untagged);
            let role = grpc::Role::Guard { guard, untagged, service };
            let (name, beat) = (GUARD_GRPC_THREAD, &beats.guard_grpc);
            loops.push(Loop::start("guard_grpc", name, shared, beat, |drain| {
                grpc::serve(listener, state, role, drain)
            })?);
        }
        if let (Some(listener), Some(door)) = (self.guard_zmq, &settings.zmq) {
            let (state, service) = (Arc::clone(shared), door.service.clone());
            let role = zmq::Role::Guard { guard, untagged: settings.untagged, service };
            let (name, beat) = (GUARD_ZMQ_THREAD, &beats.guard_zmq);
            loops.push(Loop::start("guard_zmq", name, shared, beat, |drain| {
                zmq::serve(listener, state, role, drain)
            })?);
        }
        Ok(loops)
    }
}

impl Loop {
    fn start<S, F>(
        name: &'static str,
        thread: &'static str,
        shared: &Shared,
        beat: &Arc<Heartbeat>,
        serve: S,
    ) -> Result<Self, StartError>
    where
        S: FnOnce(Drain) -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let running = LoopThread::spawn(thread, shared.clock, Arc::clone(beat), serve);
        let beat = Arc::clone(beat);
        Ok(Self { name, beat, thread: running.map_err(thread_error(thread))? })
    }
}

/// A sidecar's part in the quorum, and the node if that is its own.
type Part = (Option<Arc<dyn Quorum>>, Option<Arc<Node>>);

fn guards_nothing() -> SettingsError {
    let reason = "it admits what its own pod may write: set quorum.pod";
    SettingsError::Conflict { key: "guard".to_owned(), reason }
}

/// How long a stopping sidecar tries to hand over what its pod writes.
const DRAIN_PATIENCE_MAX: Duration = Duration::from_secs(1);

const GRPC_THREAD: &str = "hr-grpc";
const ZMQ_THREAD: &str = "hr-zmq";
const GUARD_GRPC_THREAD: &str = "hr-guard-grpc";
const GUARD_ZMQ_THREAD: &str = "hr-guard-zmq";

fn thread_error(name: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Thread { name, source }
}

fn fixed<T: PartialEq + std::fmt::Debug>(
    key: &'static str,
    was: &T,
    now: &T,
) -> Result<(), ApplyError> {
    if was == now {
        return Ok(());
    }
    Err(ApplyError::Fixed { key, was: format!("{was:?}"), now: format!("{now:?}") })
}

/// The view of the quorum's settings may change: a member says it when it joins, and not again.
fn fixed_quorum(was: Option<&NodeSettings>, now: Option<&NodeSettings>) -> Result<(), ApplyError> {
    let (Some(was), Some(now)) = (was, now) else {
        let name = |settings: Option<&NodeSettings>| settings.map(|it| it.cluster.clone());
        return fixed("quorum", &name(was), &name(now));
    };
    fixed("quorum.cluster", &was.cluster, &now.cluster)?;
    fixed("quorum.engine", &was.engine, &now.engine)?;
    fixed("quorum.voters", &was.voters, &now.voters)?;
    fixed("quorum.listen", &was.listen, &now.listen)?;
    fixed("quorum.advertise", &was.advertise, &now.advertise)?;
    fixed("quorum.data", &was.data, &now.data)?;
    fixed("quorum.pod", &was.pod, &now.pod)?;
    fixed("quorum.lease", &was.lease, &now.lease)?;
    fixed("quorum.tls", &was.tls, &now.tls)?;
    fixed("quorum.priority", &was.priority, &now.priority)?;
    fixed("quorum.stale_after", &was.stale_after, &now.stale_after)?;
    fixed("quorum.stall_check", &was.stall_check, &now.stall_check)?;
    fixed("quorum.force", &was.force, &now.force)
}
