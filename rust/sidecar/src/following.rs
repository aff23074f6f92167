//! The thread that has the sidecar route by the quorum's newest record.
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashroute_coordination::Record;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::quorum::Quorum;
use crate::shared::Shared;
use crate::threads::{Drain, LoopThread};

/// The thread `hr-record`. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Following {
    thread: LoopThread,
}

/// The name of the thread.
pub(crate) const THREAD: &str = "hr-record";

impl Following {
    /// Starts to follow: the record that is there counts when this returns, every later one as soon
    /// as the quorum tells it.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread.
    pub(crate) fn spawn(shared: &Arc<Shared>, quorum: &Arc<dyn Quorum>) -> io::Result<Self> {
        let mut records = quorum.records();
        take(shared, &mut records);
        let (state, beat) = (Arc::clone(shared), Arc::clone(&shared.heartbeats.record));
        let thread = LoopThread::spawn(THREAD, shared.clock, beat, move |drain| {
            follow(state, records, drain)
        })?;
        Ok(Self { thread })
    }

    /// Ends the thread and returns when it is gone.
    pub(crate) fn stop(self) {
        self.thread.drain();
        self.thread.join(Instant::now() + STOP_PATIENCE);
    }
}

async fn follow(
    shared: Arc<Shared>,
    mut records: watch::Receiver<Option<Record>>,
    mut drain: Drain,
) {
    let mut ticks = interval(ASK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_told = true;
    loop {
        tokio::select! {
            changed = records.changed(), if is_told => {
                // After the node's end what is known stays in force, and grows old.
                is_told = changed.is_ok();
                take(&shared, &mut records);
            }
            _ = ticks.tick() => shared.ask_quorum(),
            () = drain.requested() => return,
        }
    }
}

fn take(shared: &Shared, records: &mut watch::Receiver<Option<Record>>) {
    let newest = records.borrow_and_update().clone();
    if let Some(record) = newest {
        shared.install(record);
    }
    shared.ask_quorum();
}

/// How often it is asked whether a majority of voters was heard: well below the shortest
/// `quorum.stale_after` that makes sense.
const ASK_INTERVAL: Duration = Duration::from_millis(10);

const STOP_PATIENCE: Duration = Duration::from_secs(1);
