//! The thread that has the sidecar route by the quorum's newest record.
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashroute_coordination::Record;
use tokio::sync::watch;

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
    loop {
        take(&shared, &mut records);
        let changed = tokio::select! {
            changed = records.changed() => changed,
            () = drain.requested() => return,
        };
        if changed.is_err() {
            // The node has ended: what is known stays in force, and the node says that it is stale.
            return drain.requested().await;
        }
    }
}

fn take(shared: &Shared, records: &mut watch::Receiver<Option<Record>>) {
    let newest = records.borrow_and_update().clone();
    if let Some(record) = newest {
        shared.install(record);
    }
}

const STOP_PATIENCE: Duration = Duration::from_secs(1);
