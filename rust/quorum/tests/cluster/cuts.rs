//! Connections that stay open and carry nothing any more, as when a cable is pulled.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use hashroute_coordination::WriteRefusal;

use crate::support::{DEFAULT, Host, slot, wait};

#[test]
fn a_process_that_was_cut_off_finds_the_voters_again() {
    let cuts: Vec<Cut> = (0..2).map(|_| Cut::new()).collect();
    let witnesses: Vec<Host> = cuts
        .iter()
        .map(|cut| {
            let mut host = Host::voter(DEFAULT, &[], None);
            cut.leads_to(&host.address());
            host.crash();
            host.settings.advertise = Some(cut.address.clone());
            host.start();
            host
        })
        .collect();
    let mut one = Host::voter(DEFAULT, &[], Some("pod-a"));
    let advertised: Vec<String> = cuts.iter().map(|cut| cut.address.clone()).collect();
    one.crash();
    one.settings.voters = advertised.clone();
    one.start();
    let mut voters = vec![one.address()];
    voters.extend(advertised);
    found_at(&one, voters);
    wait("it writes everything", || one.writes_everything());
    for round in 0..2 {
        cuts.iter().for_each(|cut| cut.pull());
        wait("the lease ends", || matches!(one.admit(&slot(round)), Err(WriteRefusal::NoLease)));
        wait("it knows that nobody answers", || {
            one.node().snapshot().voters.iter().filter(|link| link.is_connected).count() == 1
        });
        cuts.iter().for_each(|cut| cut.mend());
        wait("it writes everything again", || one.writes_everything());
    }
    drop(witnesses);
}

fn found_at(host: &Host, voters: Vec<String>) {
    let mut operator = crate::support::operator_settings(&[host]);
    operator.voters = voters;
    let operator = hashroute_quorum::Operator::new(operator).unwrap();
    operator.found(&host.settings.view, DEFAULT.into(), &[]).unwrap();
}

/// A way to a listener that can be interrupted: nothing is closed, and nothing gets through.
struct Cut {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: Mutex<String>,
    is_cut: Mutex<bool>,
    changed: Condvar,
    is_over: AtomicBool,
}

impl Cut {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let with = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if with.is_over.load(Ordering::Acquire) {
                    return;
                }
                let state = Arc::clone(&with);
                thread::spawn(move || pass(stream, &state));
            }
        });
        Self { address, state }
    }

    fn leads_to(&self, target: &str) {
        *self.state.target.lock().unwrap() = target.to_owned();
    }

    fn pull(&self) {
        *self.state.is_cut.lock().unwrap() = true;
    }

    fn mend(&self) {
        *self.state.is_cut.lock().unwrap() = false;
        self.state.changed.notify_all();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        self.mend();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

impl State {
    /// Waits while the way is interrupted.
    fn wait(&self) {
        let is_cut = self.is_cut.lock().unwrap();
        drop(self.changed.wait_while(is_cut, |is_cut| *is_cut).unwrap());
    }
}

/// Passes bytes on in both directions until either side closes.
fn pass(one: TcpStream, state: &Arc<State>) {
    state.wait();
    let target = state.target.lock().unwrap().clone();
    let Ok(other) = TcpStream::connect(target) else { return };
    let (from, to) = (one.try_clone().unwrap(), other.try_clone().unwrap());
    let with = Arc::clone(state);
    thread::spawn(move || copy(from, to, &with));
    copy(other, one, state);
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        state.wait();
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            let _ = to.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}
