//! The thread that syncs the voter's state.
use std::io;
use std::sync::mpsc::{self as threads, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use hashroute_coordination::VoterState;
use tokio::sync::mpsc;

use crate::clock;
use crate::disk::{Disk, SETTLE_AFTER};
use crate::error::StartError;
use crate::priority::ask_for_realtime;
use crate::settings::Priority;
use crate::shell::Event;

/// What a voter's state is kept on.
pub(crate) trait Keeps: Send + 'static {
    /// Makes the state durable: it is when this returns.
    fn save(&mut self, state: &VoterState) -> io::Result<()>;
    /// Leaves no older state behind.
    fn settle(&mut self) -> io::Result<()>;
}

impl Keeps for Disk {
    fn save(&mut self, state: &VoterState) -> io::Result<()> {
        Self::save(self, state)
    }

    fn settle(&mut self) -> io::Result<()> {
        Self::settle(self)
    }
}

/// The thread that syncs the voter's state, so that a slow disk keeps nobody else waiting.
#[derive(Debug)]
pub(crate) struct DiskThread {
    states: threads::Sender<VoterState>,
    thread: JoinHandle<()>,
}

impl DiskThread {
    /// Starts it, at the priority of the thread that keeps the lease, if it may: a new writer waits
    /// for two syncs, and a processor for either would be one stall more.
    ///
    /// # Errors
    ///
    /// [`StartError::Thread`].
    pub(crate) fn start(
        disk: impl Keeps,
        priority: Priority,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, StartError> {
        let (states, queue) = threads::channel();
        let thread = thread::Builder::new()
            .name(DISK_THREAD.into())
            .spawn(move || {
                if priority == Priority::Realtime {
                    // If it may not, the thread that keeps the lease may not either, and says so.
                    let _ = ask_for_realtime();
                }
                save_all(disk, &queue, &events);
            })
            .map_err(|source| StartError::Thread { name: DISK_THREAD, source })?;
        Ok(Self { states, thread })
    }

    pub(crate) fn save(&self, state: VoterState) {
        // A thread that is gone has said why it could not save.
        let _ = self.states.send(state);
    }

    /// Ends it after what it was told to save.
    pub(crate) fn end(self) {
        drop(self.states);
        let _ = self.thread.join();
    }
}

/// Saves what comes. States that came while one was being saved are all older than the last of
/// them, which stands for them. When nothing has come for a while, the older copies are renewed.
fn save_all(
    mut disk: impl Keeps,
    queue: &threads::Receiver<VoterState>,
    events: &mpsc::Sender<Event>,
) {
    let mut is_settled = true;
    loop {
        let next = if is_settled {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(SETTLE_AFTER)
        };
        let (mut states, began) = (0, clock::now());
        let result = match next {
            Ok(mut state) => {
                states = 1;
                while let Ok(newer) = queue.try_recv() {
                    state = newer;
                    states += 1;
                }
                disk.save(&state)
            }
            Err(RecvTimeoutError::Timeout) => disk.settle(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        is_settled = states == 0;
        let has_failed = result.is_err();
        let took = clock::now().saturating_sub(began);
        let is_news = states > 0 || has_failed;
        if is_news && events.blocking_send(Event::Synced { states, result, took }).is_err() {
            return;
        }
        if has_failed {
            return;
        }
    }
}

const DISK_THREAD: &str = "hr-quorum-disk";
