//! Trouble that a process sees, in words for whoever runs it.
use super::Figures;
use crate::stalls::STALLS_IN_A_LEASE;
use crate::window::millis;

impl Figures {
    /// Trouble that is there or coming, each as a sentence that says what to do.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.troubles.clone();
        if let Some(reason) = &self.priority_refused {
            warnings.push(format!(
                "no real-time priority for the thread that keeps the lease ({reason}): give the \
                 process CAP_SYS_NICE or an rtprio limit of 50, or write quorum.priority = \"ordinary\""
            ));
        }
        self.warn_of_leases(&mut warnings);
        self.warn_of_disk(&mut warnings);
        self.warn_of_store(&mut warnings);
        for link in self.voters.iter().filter(|link| link.drifts(self.lease())) {
            let (rate, _) = link.drift_ppm.unwrap_or_default();
            warnings.push(format!(
                "the clock of the voter at {} runs {rate:.0} millionths beside this one, and leases allow \
                 {}: repair the clock of one of the two machines, or found with a larger drift_ppm",
                link.address,
                self.lease().drift_ppm
            ));
        }
        warnings
    }

    fn warn_of_leases(&self, warnings: &mut Vec<String>) {
        let lease = self.lease();
        let budget = lease.stall_budget(self.round_trip());
        if self.stalls.worst_lately > budget {
            warnings.push(format!(
                "a stall of {:.0} ms within the last ten minutes is longer than the lease survives ({:.0} \
                 ms): give the process real-time priority or fewer neighbours, or found with a longer ttl",
                millis(self.stalls.worst_lately),
                millis(budget)
            ));
        } else if self.stalls.worst_lately * STALLS_IN_A_LEASE > lease.ttl {
            warnings.push(format!(
                "a stall of {:.0} ms within the last ten minutes is more than a quarter of the lease of {:.0} \
                 ms: it may end by a stall alone",
                millis(self.stalls.worst_lately),
                millis(lease.ttl)
            ));
        }
        let least = self.member.as_ref().and_then(|member| member.margins.least());
        if let Some(least) = least.filter(|least| *least < lease.renewal_interval) {
            warnings.push(format!(
                "the lease had {:.1} ms left when it was extended, which is less than one renewal \
                 interval of {:.0} ms: look for stalls here, slow voters, or lost messages",
                millis(least),
                millis(lease.renewal_interval)
            ));
        }
    }

    fn warn_of_disk(&self, warnings: &mut Vec<String>) {
        let Some(voter) = &self.voter else { return };
        if let Some(trouble) = &voter.trouble {
            warnings.push(format!(
                "the voter's disk failed ({trouble}) and the voter says nothing any more: repair the disk \
                 and start the process again"
            ));
        }
        let (lease, slowest) = (self.lease(), voter.sync_times.percentile(99));
        let answer_time = lease.ttl * 2 / 3;
        if slowest + self.round_trip() > answer_time {
            warnings.push(format!(
                "a sync of the voter's disk takes up to {:.0} ms, and voters have {:.0} ms to answer, two \
                 thirds of the lease: where a majority is as slow, no change is made and no dead writer \
                 replaced; use a disk of its own, or a faster one, or found with a longer ttl",
                millis(slowest),
                millis(answer_time)
            ));
        } else if slowest > lease.renewal_interval.min(answer_time / 2) {
            warnings.push(format!(
                "a sync of the voter's disk takes up to {:.0} ms, and a new writer waits for two of them; \
                 above {:.0} ms, two thirds of the lease, none is agreed on: use a disk of its own, or a \
                 faster one",
                millis(slowest),
                millis(answer_time)
            ));
        }
    }

    /// Where the record lies in etcd, a change of it takes several of etcd's answers, one after the
    /// other.
    fn warn_of_store(&self, warnings: &mut Vec<String>) {
        let lease = self.lease();
        if self.store_round > lease.renewal_interval {
            warnings.push(format!(
                "etcd takes up to {:.0} ms to answer, longer than a renewal interval of {:.0} ms, and a new \
                 writer, like the end of a planned move, waits for several of its answers: give etcd disks \
                 and processors of its own",
                millis(self.store_round),
                millis(lease.renewal_interval)
            ));
        }
    }
}
