//! The members of an etcd cluster, and which of them is asked next.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tonic::transport::{Channel, Endpoint};

/// The members of an etcd cluster. One of them is asked, until it is late with an answer or fails.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    present: AtomicUsize,
    /// How often one was late or failed.
    failures: AtomicU64,
}

#[derive(Debug)]
struct Member {
    address: String,
    channel: Channel,
    /// Which of all failures was its last; 0 if it has answered since.
    failure: AtomicU64,
}

impl Members {
    /// Connects when it is needed. The first one is asked first.
    pub(super) fn new(endpoints: Vec<(String, Endpoint)>) -> Self {
        let member = |(address, endpoint): (String, Endpoint)| Member {
            address,
            channel: endpoint.connect_lazy(),
            failure: AtomicU64::new(0),
        };
        Self {
            members: endpoints.into_iter().map(member).collect(),
            present: AtomicUsize::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Which one is asked next.
    pub(super) fn present(&self) -> usize {
        self.present.load(Ordering::Relaxed)
    }

    /// Where it is.
    pub(super) fn address(&self, member: usize) -> &str {
        self.members.get(member).map_or("", |member| &member.address)
    }

    pub(super) fn channel(&self, member: usize) -> Option<Channel> {
        Some(self.members.get(member)?.channel.clone())
    }

    /// It has answered: nothing is held against it any more.
    pub(super) fn answered(&self, member: usize) {
        if let Some(member) = self.members.get(member) {
            member.failure.store(0, Ordering::Relaxed);
        }
    }

    /// It is late, or has failed: another one is asked from now on, unless somebody saw to that
    /// already. First those that have answered last; then the one whose failure is longest ago.
    pub(super) fn failed(&self, member: usize) {
        let Some(failed) = self.members.get(member) else { return };
        let failure = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        failed.failure.store(failure, Ordering::Relaxed);
        let count = self.members.len();
        let others = (1..count).map(|step| (member + step) % count);
        let next = others.min_by_key(|it| self.members[*it].failure.load(Ordering::Relaxed));
        if let Some(next) = next.filter(|_| self.present() == member) {
            self.present.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Members {
        let endpoint = |port: u16| {
            let address = format!("127.0.0.1:{port}");
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            (address, endpoint)
        };
        Members::new([1, 2, 3].map(endpoint).to_vec())
    }

    /// Lets the present one fail; returns who is asked then.
    fn fails(members: &Members) -> usize {
        members.failed(members.present());
        members.present()
    }

    #[tokio::test]
    async fn one_that_has_not_answered_since_it_failed_is_asked_last() {
        let members = three();
        assert_eq!([fails(&members), fails(&members)], [1, 2]);
        members.answered(1);
        assert_eq!(fails(&members), 1, "not the first one, which never answered");
        members.answered(2);
        assert_eq!(fails(&members), 2);
        members.answered(2);
        assert_eq!(fails(&members), 0, "of two that have failed, the one longest ago");
    }

    #[tokio::test]
    async fn a_second_failure_of_the_same_member_turns_nobody_away_from_the_next() {
        let members = three();
        members.failed(0);
        members.failed(0);
        assert_eq!(members.present(), 1);
        assert_eq!((members.address(1), members.address(9)), ("127.0.0.1:2", ""));
        members.failed(9);
        assert_eq!(members.present(), 1);
    }

    #[tokio::test]
    async fn the_only_member_is_asked_again() {
        let endpoint = Endpoint::from_static("http://127.0.0.1:1");
        let members = Members::new(vec![("127.0.0.1:1".to_owned(), endpoint)]);
        members.failed(0);
        assert_eq!(members.present(), 0);
    }
}
