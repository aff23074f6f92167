//! Native threads that each run one event loop, and how they end.
use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::MissedTickBehavior;

use crate::clock::{Clock, Heartbeat};

/// What a loop is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Serve.
    Running,
    /// Take nothing new, finish what was begun, then return.
    Draining,
    /// Return at once.
    Ended,
}

/// A thread with a current-thread runtime that runs one future and the local tasks it spawns.
#[derive(Debug)]
pub(crate) struct LoopThread {
    phase: watch::Sender<Phase>,
    // Only the last call looks at it; the lock lets all the others share the thread.
    finished: Mutex<Receiver<bool>>,
    thread: JoinHandle<()>,
}

impl LoopThread {
    /// Starts a thread called `name` that runs the future made by `serve`, which is told the phase
    /// through its argument. The heartbeat beats for as long as the loop turns.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread or no event queue.
    pub(crate) fn spawn<S, F>(
        name: &'static str,
        clock: Clock,
        heartbeat: Arc<Heartbeat>,
        serve: S,
    ) -> io::Result<Self>
    where
        S: FnOnce(Drain) -> F + Send + 'static,
        F: Future<Output = ()>,
    {
        let (phase, observed) = watch::channel(Phase::Running);
        let (started_sender, started) = sync_channel(1);
        let (finished_sender, finished) = sync_channel(1);
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _gone = started_sender.send(Err(error));
                    return;
                }
            };
            let _gone = started_sender.send(Ok(()));
            let served = runtime.block_on(async {
                spawn_local(beat(clock, heartbeat));
                let mut end = observed.clone();
                tokio::select! {
                    () = serve(Drain { phase: observed }) => true,
                    _ = end.wait_for(|phase| *phase == Phase::Ended) => false,
                }
            });
            let _gone = finished_sender.send(served);
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { phase, finished: Mutex::new(finished), thread })
    }

    /// Asks the loop to take nothing new and to return when what was begun is done.
    pub(crate) fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Waits until `deadline` for the loop to return, then ends it. Returns whether it returned by
    /// itself.
    pub(crate) fn join(self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let finished = self.finished.into_inner().unwrap_or_else(PoisonError::into_inner);
        let finished = finished.recv_timeout(left).unwrap_or(false);
        self.phase.send_replace(Phase::Ended);
        let ended = self.thread.join();
        finished && ended.is_ok()
    }
}

/// Tells a loop that it is to finish.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    phase: watch::Receiver<Phase>,
}

impl Drain {
    /// Returns once the loop is to take nothing new.
    pub(crate) async fn requested(&mut self) {
        // A closed channel means that the owner of the thread is gone: nobody will ask again.
        let _closed = self.phase.wait_for(|phase| *phase != Phase::Running).await;
    }

    /// Returns whether the loop is to take nothing new.
    #[must_use]
    pub(crate) fn is_requested(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Returns whether the loop is to end at once. For a loop that does not yield: one that does is
    /// ended from outside.
    #[must_use]
    pub(crate) fn is_over(&self) -> bool {
        self.phase.has_changed().is_err() || *self.phase.borrow() == Phase::Ended
    }
}

async fn beat(clock: Clock, heartbeat: Arc<Heartbeat>) {
    let mut ticks = tokio::time::interval(BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        heartbeat.beat(clock.now());
    }
}

/// Ten beats a second cost nothing and tell a stuck loop from an idle one within a blink.
const BEAT_INTERVAL: Duration = Duration::from_millis(100);
