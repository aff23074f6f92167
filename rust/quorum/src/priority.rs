//! Real-time priority for the thread that keeps the lease.
#![expect(unsafe_code, reason = "the scheduler is asked by a C call")]
use std::io;

/// Asks for `SCHED_FIFO` 50 on the calling thread: it then runs before every ordinary thread of
/// the machine. Threads that it starts are ordinary ones again.
///
/// # Errors
///
/// What the operating system said: without `CAP_SYS_NICE` and with `RLIMIT_RTPRIO` below 50 it
/// refuses.
pub(crate) fn ask_for_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and `parameters` is a valid `sched_param` that lives through
    // the call, which only reads it.
    let failed = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Above every ordinary thread and below the kernel's own interrupt threads, which are at 50 too
/// but were there first.
const PRIORITY: i32 = 50;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_gets_the_priority_or_hears_why_not_and_does_not_pass_it_on() {
        let policy = || {
            // SAFETY: 0 is the calling thread; the call reads and writes no memory of ours.
            unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
        };
        let seen = thread::spawn(move || {
            let asked = ask_for_realtime();
            let child = thread::spawn(policy).join().unwrap();
            (asked, policy(), child)
        });
        let (asked, own, child) = seen.join().unwrap();
        match asked {
            Ok(()) => assert_eq!(own, libc::SCHED_FIFO),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(child, libc::SCHED_OTHER);
    }
}
