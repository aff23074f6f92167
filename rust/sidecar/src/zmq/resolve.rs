//! Addresses as ZeroMQ writes them, and how names in them become numbers.
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Builder;

use mio::Waker;

/// Takes `host:port` out of `tcp://host:port`.
pub(super) fn host_and_port(address: &str) -> Result<&str, &'static str> {
    let authority = address
        .strip_prefix("tcp://")
        .ok_or("the address must begin with tcp://, the only transport spoken here")?;
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(authority),
        _ => Err("the address must have the form tcp://host:port"),
    }
}

/// Where a pod is, or who will tell.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The address holds numbers already.
    Known(SocketAddr),
    /// A thread asks the system's resolver and sends the answer.
    Asked,
}

/// The answer of the resolver for one question.
#[derive(Debug)]
pub(super) struct Resolved {
    /// Who asked.
    pub(super) link: usize,
    /// What was asked.
    pub(super) name: String,
    /// The first address, or why there is none.
    pub(super) address: io::Result<SocketAddr>,
}

/// Finds the socket address of `host:port` without blocking.
///
/// Only a name needs a thread, for as long as the system's resolver takes; a link asks for one name at a time.
pub(super) fn look_up(
    host_and_port: &str,
    link: usize,
    answers: &Sender<Resolved>,
    waker: &Arc<Waker>,
) -> io::Result<Lookup> {
    if let Ok(known) = host_and_port.parse() {
        return Ok(Lookup::Known(known));
    }
    let (name, answers, waker) = (host_and_port.to_owned(), answers.clone(), Arc::clone(waker));
    Builder::new().name("hr-zmq-name".to_owned()).spawn(move || {
        let address = name.to_socket_addrs().and_then(|mut found| {
            found.next().ok_or_else(|| io::Error::other("the name has no address"))
        });
        // If the loop is gone, nobody waits for the answer.
        let _gone = answers.send(Resolved { link, name, address });
        let _gone = waker.wake();
    })?;
    Ok(Lookup::Asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tcp_addresses_with_a_port_are_taken() {
        assert_eq!(host_and_port("tcp://10.0.0.1:5551"), Ok("10.0.0.1:5551"));
        assert_eq!(host_and_port("tcp://[::1]:5551"), Ok("[::1]:5551"));
        assert_eq!(host_and_port("tcp://pod-a.local:1"), Ok("pod-a.local:1"));
        assert!(host_and_port("ipc:///tmp/pod").unwrap_err().contains("tcp://"));
        for wrong in ["tcp://", "tcp://host", "tcp://:1", "tcp://host:port", "tcp://host:99999"] {
            assert!(host_and_port(wrong).unwrap_err().contains("tcp://host:port"), "{wrong}");
        }
    }
}
