//! A process that is stopped and goes on later, as by a debugger, a full disk or a bad hypervisor.
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use hashroute_quorum::Node;

use crate::support::{DEFAULT, Host, addresses, found, settings, slots, wait};

/// Set in the process that this test starts: the addresses of the voters.
const CHILD: &str = "HASHROUTE_TEST_PAUSED_CHILD";

#[test]
fn a_process_that_goes_on_after_its_lease_admits_nothing_of_what_it_owned() {
    let voters = [
        Host::voter(DEFAULT, &[], None),
        Host::voter(DEFAULT, &[], None),
        Host::voter(DEFAULT, &[], Some("pod-b")),
    ];
    let voters = [&voters[0], &voters[1], &voters[2]];
    found(&voters);
    let other = voters[2];
    wait("the pod writes everything", || other.writes_everything());
    let mut paused = Paused::start(&addresses(&voters).join(","));
    wait("the other process writes something", || paused.admitted() > 0);
    wait("and this one not everything", || !other.writes_everything());
    paused.signal(libc::SIGSTOP);
    wait("the pod writes everything again", || other.writes_everything());
    let taken_over_at = other.epoch().unwrap().get();
    // It is asked in the moment in which it goes on. Whatever it admits, it has joined again for.
    writeln!(paused.input, "admit").unwrap();
    paused.signal(libc::SIGCONT);
    let (admitted, least_term) = paused.answer();
    assert!(admitted == 0 || least_term > taken_over_at, "{admitted} under {least_term}");
    wait("it joins again", || paused.admitted() > 0);
}

/// What runs in the other process: a member that answers how many slots it admits writes to.
#[test]
fn child() {
    let Ok(voters) = std::env::var(CHILD) else { return };
    let voters: Vec<String> = voters.split(',').map(str::to_owned).collect();
    let node = Node::start(settings(DEFAULT, &voters, Some("pod-a"))).unwrap();
    let guard = node.guard().unwrap();
    for _ in std::io::stdin().lock().lines() {
        let admitted: Vec<_> = slots().filter_map(|slot| guard.admit(&slot, None).ok()).collect();
        let least_term = admitted.iter().map(|it| it.term().get()).min().unwrap_or_default();
        println!("\nadmitted {} {least_term}", admitted.len());
    }
    assert!(node.stop(Duration::from_secs(1)));
}

struct Paused {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Paused {
    fn start(voters: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "paused::child", "--nocapture"])
            .env(CHILD, voters)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    fn admitted(&mut self) -> u64 {
        writeln!(self.input, "admit").unwrap();
        self.answer().0
    }

    /// How many writes it admitted, and the least of their terms.
    fn answer(&mut self) -> (u64, u64) {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the process ended");
            if let Some((count, term)) =
                line.strip_prefix("admitted ").and_then(|words| words.trim().split_once(' '))
            {
                return (count.parse().unwrap(), term.parse().unwrap());
            }
        }
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.process.id()).unwrap();
        // SAFETY: a signal to a process that this test started and has not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
