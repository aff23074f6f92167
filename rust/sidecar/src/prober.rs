//! Asks each pod again and again whether it serves, on a thread of its own.
//!
//! The thread does nothing else, so that a busy relay never makes healthy pods look late; and it
//! says how late it was itself, so that a machine that stood still blames nobody.
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashroute_core::PodId;
use hashroute_dataplane::fleet::Fleet;
use hashroute_dataplane::health::{Event, Health, Transition};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep_until, timeout_at};

use crate::clock::{Clock, Heartbeat};
use crate::probe::PodProber;
use crate::settings::HealthSettings;
use crate::threads::{Drain, LoopThread};

/// Whose pods are probed, and who hears of it.
pub(crate) trait ProbeSubject: Send + Sync + 'static {
    /// The pods at this moment. Those with a gRPC address are probed.
    fn fleet(&self) -> Arc<Fleet>;

    /// How they are probed.
    fn settings(&self) -> HealthSettings;

    /// Hears of each change of health that a probe brought about.
    fn note(&self, transition: Option<Transition>);
}

/// The thread `hr-probe`. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Prober {
    thread: LoopThread,
}

/// The name of the thread.
pub(crate) const THREAD: &str = "hr-probe";

impl Prober {
    /// Starts to probe. Pods and settings are looked at anew all the time.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread.
    pub(crate) fn spawn(
        subject: Arc<dyn ProbeSubject>,
        clock: Clock,
        heartbeat: Arc<Heartbeat>,
    ) -> io::Result<Self> {
        let thread = LoopThread::spawn(THREAD, clock, heartbeat, move |drain| {
            supervise(Rc::new(Context { subject, clock }), drain)
        })?;
        Ok(Self { thread })
    }

    /// Ends the thread and returns when it is gone.
    pub(crate) fn stop(self) {
        self.thread.drain();
        self.thread.join(Instant::now() + STOP_PATIENCE);
    }
}

struct Context {
    subject: Arc<dyn ProbeSubject>,
    clock: Clock,
}

/// Has a task for each pod of the present fleet.
async fn supervise(context: Rc<Context>, mut drain: Drain) {
    let mut probed: HashMap<PodId, (String, JoinHandle<()>)> = HashMap::new();
    loop {
        let fleet = context.subject.fleet();
        let pods = fleet.ring().view().pods();
        let wanted = |id: &PodId| pods.iter().find(|pod| pod.id == *id);
        probed.retain(|id, (address, task)| {
            let stays = wanted(id).is_some_and(|pod| pod.addresses.grpc.as_ref() == Some(address));
            if !stays || task.is_finished() {
                task.abort();
            }
            stays && !task.is_finished()
        });
        let interval = context.subject.settings().interval;
        for (pod, place) in pods.iter().zip(0_u32..) {
            let Some(address) = &pod.addresses.grpc else { continue };
            if probed.contains_key(&pod.id) {
                continue;
            }
            // Spread over the interval, so that probes do not come in bursts.
            let offset = interval * place / u32::try_from(pods.len()).unwrap_or(u32::MAX);
            let first = Instant::now() + offset;
            let task =
                spawn_local(probe_pod(Rc::clone(&context), pod.id.clone(), address.clone(), first));
            probed.insert(pod.id.clone(), (address.clone(), task));
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = drain.requested() => return,
        }
    }
}

/// Probes one pod for as long as it is in the view.
async fn probe_pod(context: Rc<Context>, id: PodId, address: String, first: Instant) {
    let mut prober = PodProber::new(address);
    let mut due = first;
    loop {
        sleep_until(due.into()).await;
        let settings = context.subject.settings();
        let asked_at = context.clock.now();
        let deadline = Instant::now() + settings.timeout;
        let event = match timeout_at(deadline.into(), prober.probe(&settings)).await {
            Ok(event) => event,
            Err(_) => {
                prober.timed_out();
                Event::ProbeTimedOut { prober_late: deadline.elapsed() }
            }
        };
        let fleet = context.subject.fleet();
        let Some(pod) = fleet.ring().view().index_of(id.as_str()) else { return };
        // A success that was already under way when the pod fell proves nothing.
        let fell_since = fleet
            .status(pod)
            .is_some_and(|status| status.health == Health::Down && status.since >= asked_at);
        if !(fell_since && event == Event::ProbeSucceeded) {
            context.subject.note(fleet.observe(pod, context.clock.now(), event));
        }
        due = next_due(due, settings.interval);
    }
}

/// The next moment of the schedule that is not past: a probe that took long is not made up for.
fn next_due(due: Instant, interval: Duration) -> Instant {
    let next = due + interval;
    let now = Instant::now();
    if next < now { now + interval } else { next }
}

const STOP_PATIENCE: Duration = Duration::from_secs(1);
