use hashroute_coordination::Change;

use super::*;
use crate::stalls::Stalls;
use crate::testing::{both, entry};

fn window(millis: &[u64]) -> Window {
    let mut window = Window::default();
    millis.iter().for_each(|it| window.push(Duration::from_millis(*it)));
    window
}

/// Pod `a` beside voter 1, with everything as it should be.
fn well() -> Figures {
    let record = both();
    let writer = record.owner(&hashroute_coordination::Resource::Group("gateway".into()));
    Figures {
        engine: "embedded",
        cluster: "desk-7".into(),
        lease: LeaseParameters::TIGHT,
        is_stale: false,
        voters: vec![LinkFigures {
            is_connected: true,
            round_trip: Some(Duration::from_millis(2)),
            ..LinkFigures::to(entry(2).id, "voter-2:9010")
        }],
        voter: Some(VoterFigures {
            id: entry(1).id,
            address: "voter-1:9010".into(),
            record: Some(record.clone()),
            grants: 7,
            refusals: BTreeMap::new(),
            syncs: 2,
            sync_times: window(&[4, 6]),
            attending: vec!["b".into()],
            routers: BTreeMap::from([("one".into(), 3), ("other".into(), 2)]),
            trouble: None,
        }),
        member: Some(MemberFigures {
            writer: writer.unwrap(),
            record: Some(record.clone()),
            lease_left: Some(Duration::from_millis(250)),
            lease_since: Some(Duration::from_secs(9)),
            margins: window(&[240, 230]),
            renewals: window(&[1, 3]),
            elections: 1,
            gate: GateFigures::default(),
        }),
        store_round: Duration::ZERO,
        stalls: Stalls::new(Duration::ZERO).figures(),
        record: Some(record),
        installed: vec![(1, Duration::from_secs(70)), (3, Duration::from_secs(9))],
        is_realtime: true,
        priority_refused: None,
        troubles: Vec::new(),
        follows_as: None,
    }
}

#[track_caller]
fn assert_warns(figures: &Figures, words: &str) {
    let warnings = figures.snapshot().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
}

#[test]
fn the_promise_is_the_quiet_time_the_stalls_and_the_rounds() {
    let mut figures = well();
    figures.stalls.worst_lately = Duration::from_millis(20);
    // 100 ms of renewals that are heard, 300.6 until the guards have run out, 60 for a race, two
    // stalls of 20, two rounds of 3 + 6, two of 3.
    let promise = figures.snapshot().recovery_promise_ms;
    assert!((promise - 524.6).abs() < 0.001, "{promise}");
}

#[test]
fn what_is_well_is_no_reason_to_warn() {
    let snapshot = well().snapshot();
    assert_eq!(snapshot.warnings, Vec::<String>::new());
    let (voter, member) = (snapshot.voter.unwrap(), snapshot.member.unwrap());
    assert_eq!((voter.is_voter, voter.epoch, voter.stale_routers), (true, 3, 1));
    assert_eq!((member.is_named, member.holds_lease), (true, true));
    assert_eq!(member.groups, ["gateway"]);
    assert!(member.slots > 0 && member.slots < 8, "{}", member.slots);
    assert_eq!(snapshot.stalls.budget_ms.round(), 237.0);
    assert_eq!(snapshot.record_age_ms, Some(9_000.0));
    assert_eq!(snapshot.installed.first().map(|it| (it.epoch, it.ms_ago)), Some((1, 70_000.0)));
}

#[test]
fn a_voter_that_was_replaced_while_it_was_away_is_none() {
    let mut figures = well();
    let change = Change::ReplaceVoter { old: entry(1).id, new: entry(9) };
    let replaced = both().next(&change).unwrap();
    figures.record = Some(replaced);
    let voter = figures.snapshot().voter.unwrap();
    assert_eq!((voter.is_voter, voter.epoch), (false, 3));
}

#[test]
fn trouble_that_is_coming_is_said_with_what_to_do() {
    let mut figures = well();
    figures.priority_refused = Some("not permitted".into());
    assert_warns(&figures, "CAP_SYS_NICE");
    let mut figures = well();
    figures.stalls.worst_lately = Duration::from_millis(80);
    assert_warns(&figures, "a quarter of the lease");
    figures.stalls.worst_lately = Duration::from_millis(250);
    assert_warns(&figures, "longer than the lease survives");
    let mut figures = well();
    figures.member.as_mut().unwrap().margins = window(&[240, 49]);
    assert_warns(&figures, "less than one renewal interval");
    let mut figures = well();
    figures.voter.as_mut().unwrap().sync_times = window(&[51]);
    assert_warns(&figures, "above 200 ms");
    figures.voter.as_mut().unwrap().sync_times = window(&[199]);
    assert_warns(&figures, "voters have 200 ms to answer");
    figures.voter.as_mut().unwrap().sync_times = window(&[2]);
    figures.voter.as_mut().unwrap().trouble = Some("input/output error".into());
    assert_warns(&figures, "repair the disk");
    let mut figures = well();
    figures.troubles.push("the voter at voter-3:9010: no answer within 500 ms".into());
    assert_warns(&figures, "voter-3");
    let mut figures = well();
    figures.store_round = Duration::from_millis(50);
    assert_eq!(figures.snapshot().warnings, Vec::<String>::new());
    figures.store_round = Duration::from_millis(51);
    assert_warns(&figures, "etcd takes up to 51 ms to answer");
}

#[test]
fn a_disk_is_slow_well_before_changes_fail_however_rare_the_renewals_are() {
    let mut figures = well();
    let rare = Duration::from_millis(140);
    figures.record = None;
    figures.lease = LeaseParameters { renewal_interval: rare, ..LeaseParameters::DEFAULT };
    figures.voter.as_mut().unwrap().sync_times = window(&[101]);
    assert_warns(&figures, "above 200 ms");
}

#[test]
fn a_clock_that_runs_off_is_pointed_out_once_that_is_certain() {
    let mut figures = well();
    figures.voters[0].drift_ppm = Some((-1_300.0, 250.0));
    assert_warns(&figures, "voter-2:9010 runs -1300 millionths");
    assert_eq!(figures.snapshot().voters[0].drift_ppm, Some(-1_300.0));
    figures.voters[0].drift_ppm = Some((-1_300.0, 400.0));
    assert_eq!(figures.snapshot().warnings, Vec::<String>::new());
    assert_eq!(figures.snapshot().voters[0].drift_ppm, None, "not known well enough");
}
