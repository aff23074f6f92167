//! The gRPC data plane: HTTP/2 streams from clients, relayed to pods by key.
//!
//! One thread, one event loop. A task for each client connection ([`connection`]) moves its bytes
//! and starts a task for each request ([`call`]); a task for each pod ([`upstream`]) keeps
//! connections to it. What a request does is in the order of its life:
//!
//! - [`call`]: the rule of its path, its key (perhaps from its body, [`key_search`]), its slot;
//! - [`attempt`]: one pod after the other, until one answers or there is a reason to stop;
//! - [`write`]: instead, for what has one writer: to its owner by the newest record, and nowhere else;
//! - [`guarded`]: instead, behind a guard: to the own service, if it is admitted;
//! - [`transit`], [`exchange`]: the stream to one pod, both directions under flow control ([`body`],
//!   [`reply`]).
mod attempt;
mod body;
mod call;
mod connection;
mod deadline;
mod exchange;
mod gateway;
mod guarded;
mod head;
mod keepalive;
mod key_search;
mod listener;
mod reply;
mod sniff;
mod socket;
mod transit;
mod upstream;
mod write;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio::time::sleep;

use self::gateway::Gateway;
pub(crate) use self::listener::Listener;
pub(crate) use self::socket::Socket;
use crate::quorum::WriteGuard;
use crate::settings::Untagged;
use crate::shared::Shared;
use crate::threads::Drain;

/// What a loop is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// It routes requests to pods.
    Router,
    /// It stands in front of the service of its own pod.
    Guard {
        /// Decides on writes.
        guard: Arc<dyn WriteGuard>,
        /// What a write without a tag gets.
        untagged: Untagged,
        /// The address of the service.
        service: String,
    },
}

/// Serves the clients that connect to `listener` until it is told to drain and has finished.
pub(crate) async fn serve(listener: Listener, shared: Arc<Shared>, role: Role, mut drain: Drain) {
    let Ok(listener) = listener.into_async() else { return };
    let gateway = Rc::new(Gateway::new(shared, role));
    spawn_local(follow_changes(Rc::clone(&gateway)));
    tokio::select! {
        () = accept(&listener, &gateway, drain.clone()) => {}
        () = drain.requested() => {}
    }
    drop(listener);
    gateway.metrics().connections.emptied().await;
}

/// Accepts connections for ever.
async fn accept(listener: &TcpListener, gateway: &Rc<Gateway>, drain: Drain) {
    let limit = u64::from(gateway.shared.limits.connections_max);
    let metrics = gateway.metrics();
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors or memory: give some of it time to come back.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        match metrics.connections.enter_below(limit) {
            Some(counted) => {
                let peer = Rc::from(peer.ip().to_canonical().to_string());
                let gateway = Rc::clone(gateway);
                spawn_local(connection::serve(gateway, stream, peer, drain.clone(), counted));
            }
            None => metrics.refused.increment(),
        }
    }
}

/// Connects to the pods of new settings, and wakes the requests at pods that were found down.
async fn follow_changes(gateway: Rc<Gateway>) {
    let mut changes = gateway.shared.changes();
    let (mut downs, mut applied) = (0, 0);
    while changes.changed().await.is_ok() {
        let now = *changes.borrow_and_update();
        let _connected = gateway.table();
        if applied != now.applied {
            applied = now.applied;
            gateway.announce_change();
        }
        if downs != now.downs {
            downs = now.downs;
            gateway.announce_downs();
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
