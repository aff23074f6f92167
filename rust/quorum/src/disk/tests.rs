//! What was saved is there again, or nothing is: never something older.
use std::fs;
use std::os::unix::fs::PermissionsExt;

use hashroute_coordination::Ballot;
use proptest::prelude::*;

use super::*;
use crate::proto;
use crate::testing::{CLUSTER, ballots, both, changes, first, join, records};

/// Four copies in memory, and all that was done to them.
#[derive(Debug, Default)]
struct Memory {
    copies: Contents,
    done: Vec<Step>,
    /// How many more writes succeed.
    good: Option<usize>,
}

type Contents = [Option<Vec<u8>>; 4];

#[derive(Debug, Clone)]
enum Step {
    WritePair(usize, Vec<u8>),
    /// A save of this number has returned.
    Saved(u64),
    Settled,
}

impl Medium for Memory {
    fn read(&mut self, index: usize) -> io::Result<Option<Vec<u8>>> {
        Ok(self.copies[index].clone())
    }

    fn write_pair(&mut self, pair: usize, bytes: &[u8]) -> io::Result<()> {
        if let Some(good) = &mut self.good {
            *good = good.checked_sub(1).ok_or_else(|| io::Error::other("no space left"))?;
        }
        self.done.push(Step::WritePair(pair, bytes.to_vec()));
        Ok(())
    }
}

/// A small body, of a length that goes up and down.
fn small(sequence: u64) -> Body {
    let round = [1, u64::MAX, 1 << 20][usize::try_from(sequence % 3).unwrap()];
    let promised = Some(proto::Ballot { round, proposer: sequence });
    Body { sequence, promised, ..Body::newcomer("c", VoterId(5)) }
}

fn copies(medium: Memory) -> Copies<Memory> {
    Copies::new(medium, 0, 1)
}

/// What is done by four saves, of which the first and the third are settled.
fn history() -> Vec<Step> {
    let mut copies = copies(Memory::default());
    for number in 1..=4 {
        copies.save(small(number)).unwrap();
        copies.medium.done.push(Step::Saved(number));
        if number % 2 == 1 {
            copies.settle().unwrap();
            copies.medium.done.push(Step::Settled);
        }
    }
    copies.medium.done
}

/// What a crash may leave.
struct Crash {
    contents: Contents,
    /// The number of the last save that had returned.
    saved: u64,
    is_settled: bool,
}

/// Every state in which a crash may leave the copies. What was being written may be there in
/// part, in each of the two in its own way.
fn crashes(steps: &[Step]) -> Vec<Crash> {
    let (mut contents, mut saved, mut is_settled) = (Contents::default(), 0, false);
    let mut crashes = Vec::new();
    for step in steps {
        match step {
            Step::WritePair(pair, bytes) => {
                let [one, twin] = [2 * pair, 2 * pair + 1];
                let ones = torn(contents[one].as_deref(), bytes);
                let twins = torn(contents[twin].as_deref(), bytes);
                is_settled = false;
                for (number, torn) in ones.iter().enumerate() {
                    let (first, last) = (&twins[0], &twins[twins.len() - 1]);
                    for other in [first, last, &twins[(number * 7 + 3) % twins.len()]] {
                        for (one, twin) in [(one, twin), (twin, one)] {
                            let mut contents = contents.clone();
                            (contents[one], contents[twin]) = (torn.clone(), other.clone());
                            crashes.push(Crash { contents, saved, is_settled });
                        }
                    }
                }
                (contents[one], contents[twin]) =
                    (ones.last().cloned().unwrap(), twins.last().cloned().unwrap());
            }
            Step::Saved(number) => saved = *number,
            Step::Settled => is_settled = true,
        }
        crashes.push(Crash { contents: contents.clone(), saved, is_settled });
    }
    crashes
}

/// What may be left of a write over `old`: its beginning, or its end. The first one is nothing of
/// it, the last one all.
fn torn(old: Option<&[u8]>, new: &[u8]) -> Vec<Option<Vec<u8>>> {
    let Some(old) = old else { return vec![None, Some(new.to_vec())] };
    let mix = |is_new: &dyn Fn(usize) -> bool| -> Vec<u8> {
        let byte = |place: usize| {
            let (old, new) = (old.get(place), new.get(place));
            if is_new(place) { new.or(old) } else { old.or(Some(&0)) }
        };
        (0..old.len().max(new.len())).filter_map(byte).copied().collect()
    };
    let mut torn = vec![Some(old.to_vec())];
    for cut in 0..new.len() {
        torn.push(Some(mix(&|place| place >= cut)));
        torn.push(Some(mix(&|place| place < cut)));
        // The file has not grown yet.
        torn.push(Some(mix(&|place| place < cut)[..old.len().max(cut)].to_vec()));
    }
    torn.push(Some(mix(&|_| true)));
    torn
}

fn judge(copies: &[Copy; 4]) -> Result<Option<u64>, Unusable> {
    copy::choose(copies).map(|chosen| chosen.map(|(body, _)| body.sequence))
}

fn parse(contents: &Contents) -> [Copy; 4] {
    contents.clone().map(Copy::parse)
}

#[test]
fn a_crash_at_any_moment_loses_nothing_that_was_saved() {
    for Crash { contents, saved, .. } in crashes(&history()) {
        match judge(&parse(&contents)) {
            Ok(Some(number)) => assert!(number == saved || number == saved + 1),
            Ok(None) => assert_eq!((saved, &contents), (0, &Contents::default())),
            Err(error) => panic!("{error:?} after a crash alone: {contents:?}"),
        }
    }
}

/// Every way in which one copy can go bad by one byte or by a cut, or be gone.
fn damages(copy: &[u8], bits: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut all = vec![None];
    for place in 0..copy.len() {
        all.push(Some(copy[..place].to_vec()));
        for bit in bits {
            let mut changed = copy.to_vec();
            changed[place] ^= bit;
            all.push(Some(changed));
        }
    }
    all
}

#[test]
fn one_copy_may_go_bad_in_any_way_and_at_any_time_and_nothing_that_was_saved_is_lost() {
    let mut tried = 0;
    for (number, Crash { contents, saved, .. }) in crashes(&history()).into_iter().enumerate() {
        let at_rest = contents
            .iter()
            .all(|copy| copy.is_none() || matches!(Copy::parse(copy.clone()), Copy::Whole(_)));
        if number % if at_rest { 11 } else { 41 } != 0 {
            continue;
        }
        // At rest each bit; else another one in each state, so that each is met in many.
        let bits: Vec<u8> =
            (0..8).filter(|bit| at_rest || number % 8 == *bit).map(|it| 1 << it).collect();
        let copies = parse(&contents);
        for (index, copy) in contents.iter().enumerate() {
            for damaged in damages(copy.as_deref().unwrap_or_default(), &bits) {
                let mut copies = copies.clone();
                copies[index] = Copy::parse(damaged);
                match judge(&copies) {
                    Ok(Some(number)) => {
                        assert!(number >= saved, "{number} and not {saved}: {copies:?}");
                    }
                    Ok(None) => assert!(saved == 0 && copies.iter().all(|it| *it == Copy::Absent)),
                    // One that alone was there yet, and nobody has been told of it.
                    Err(_) => assert!(saved == 0, "{copies:?}"),
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 50_000, "{tried}");
}

#[test]
fn once_settled_nothing_older_is_left_whatever_goes_bad() {
    for Crash { contents, saved, is_settled } in crashes(&history()) {
        let copies = parse(&contents);
        for bad in (0..16_usize).filter(|_| is_settled) {
            let mut copies = copies.clone();
            for index in (0..4).filter(|index| bad >> index & 1 == 1) {
                copies[index] = Copy::Damaged(String::new());
            }
            match judge(&copies) {
                Ok(number) => assert_eq!(number, Some(saved)),
                Err(error) => assert!(bad == 15 && matches!(error, Unusable::Damaged(_))),
            }
        }
    }
}

#[test]
fn copies_that_contradict_each_other_are_refused() {
    let judge = |one: Body, other: Body| {
        judge(&parse(&[None, Some(one.encode()), Some(other.encode()), None]))
    };
    let body = |sequence| Body { sequence, ..Body::newcomer("c", VoterId(5)) };
    assert_eq!(judge(body(4), body(3)), Ok(Some(4)));
    assert_eq!(judge(body(4), body(6)), Ok(Some(6)));
    let refused = |one, other| matches!(judge(one, other), Err(Unusable::Damaged(_)));
    assert!(refused(body(6), body(3)), "the disk lost what it had confirmed");
    let twin = Body { sequence: 4, ..Body::newcomer("c", VoterId(6)) };
    assert!(refused(body(4), twin), "another voter's");
    let voted = Body { promised: small(4).promised, ..body(4) };
    assert!(refused(voted, body(4)), "the same number, and not the same state");
}

/// As copies of a later release would be: whole, with another version.
fn of_version(version: u32, body: &Body) -> Vec<u8> {
    let mut copy = body.encode();
    copy[8..12].copy_from_slice(&version.to_le_bytes());
    let checksum = copy::checksum(&copy[..20], &copy[36..]);
    copy[20..36].copy_from_slice(&checksum);
    copy
}

#[test]
fn what_a_later_release_wrote_is_neither_read_nor_taken_for_damage() {
    let body = Body { sequence: 1, ..Body::newcomer("c", VoterId(5)) };
    for beside in [None, Some(body.encode()), Some(b"bad".to_vec())] {
        let copies = parse(&[Some(of_version(3, &body)), None, beside, None]);
        assert!(matches!(judge(&copies), Err(Unusable::OtherRelease(_))));
    }
}

#[test]
fn after_an_error_nothing_is_saved_any_more() {
    for good in 0..2 {
        let mut copies = copies(Memory { good: Some(good), ..Memory::default() });
        assert!(copies.save(small(1)).and_then(|()| copies.settle()).is_err());
        copies.medium.good = None;
        let steps = copies.medium.done.len();
        assert!(copies.save(small(2)).is_err(), "a sync that succeeds later proves nothing");
        assert_eq!(copies.medium.done.len(), steps);
    }
}

fn state() -> VoterState {
    let promised = Some(Ballot { round: 3, proposer: 9 });
    let accepted = Some((Ballot { round: 2, proposer: 9 }, join(&both(), "a", 2)));
    let tentative = promised.map(|ballot| (ballot, join(&both(), "b", 2)));
    VoterState { id: VoterId(1), installed: both(), promised, accepted, tentative }
}

fn open(directory: &Path) -> Result<(Disk, Stored), StartError> {
    Disk::open(directory, CLUSTER)
}

/// A directory in which `state` was saved under the id that the disk drew.
fn saved() -> (tempfile::TempDir, VoterState) {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, stored) = open(directory.path()).unwrap();
    let Stored::Newcomer(id) = stored else { panic!("nothing was there") };
    let state = VoterState { id, ..state() };
    disk.save(&state).unwrap();
    (directory, state)
}

#[test]
fn a_voter_keeps_its_id_and_its_state() {
    let directory = tempfile::tempdir().unwrap();
    let id = open(directory.path()).unwrap().1;
    assert_eq!(open(directory.path()).unwrap().1, id, "also before it has a record");
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).unwrap().1, id, "and no two have the same");
    let (directory, state) = saved();
    for _ in 0..3 {
        let (mut disk, stored) = open(directory.path()).unwrap();
        assert_eq!(stored, Stored::Known(Box::new(state.clone())));
        disk.save(&state).unwrap();
    }
}

#[test]
fn the_state_of_another_voter_is_not_saved() {
    let (directory, state) = saved();
    let (mut disk, _) = open(directory.path()).unwrap();
    let other = VoterState { id: VoterId(state.id.0 ^ 1), ..state.clone() };
    assert_eq!(disk.save(&other).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    drop(disk);
    assert_eq!(open(directory.path()).unwrap().1, Stored::Known(Box::new(state)));
}

#[test]
fn the_directory_is_made_for_nobody_else() {
    let above = tempfile::tempdir().unwrap();
    let directory = above.path().join("one").join("two");
    drop(open(&directory).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(directory.parent().unwrap()), 0o700);
    for name in ["0", "1", "2", "3", "lock"] {
        assert_eq!(mode(&directory.join(format!("voter-state.{name}"))), 0o600, "{name}");
    }
    assert!(!directory.join("voter-state.new").exists());
}

#[test]
fn a_directory_has_one_voter_at_a_time() {
    let (directory, _) = saved();
    let (disk, _) = open(directory.path()).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert_eq!(refused.code(), "disk_in_use");
    drop(disk);
    assert!(open(directory.path()).is_ok());
}

#[test]
fn another_clusters_state_is_left_alone() {
    let (directory, state) = saved();
    let refused = Disk::open(directory.path(), "desk-8").unwrap_err();
    assert_eq!(refused.code(), "other_cluster");
    assert_eq!(open(directory.path()).unwrap().1, Stored::Known(Box::new(state)));
}

fn contents(directory: &Path) -> Contents {
    [0, 1, 2, 3].map(|index| fs::read(directory.join(format!("voter-state.{index}"))).ok())
}

fn put(directory: &Path, contents: &Contents) {
    for (index, copy) in contents.iter().enumerate() {
        let path = directory.join(format!("voter-state.{index}"));
        match copy {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
}

#[test]
fn one_file_gone_or_gone_bad_is_made_good_from_the_others() {
    let (directory, state) = saved();
    let whole = contents(directory.path());
    assert_eq!(whole[0], whole[1], "what was saved last");
    assert_ne!(whole[0], whole[2], "and not settled yet");
    for index in 0..4 {
        let cut = whole[index].as_ref().map(|it| it[1..].to_vec());
        for bad in [None, Some(Vec::new()), Some(vec![0; 100]), cut] {
            let mut contents = whole.clone();
            contents[index] = bad;
            put(directory.path(), &contents);
            let (disk, stored) = open(directory.path()).unwrap();
            assert_eq!(stored, Stored::Known(Box::new(state.clone())));
            drop(disk);
            let copies = parse(&self::contents(directory.path()));
            assert!(matches!(&copies[0], Copy::Whole(_)), "all are whole again");
            assert!(copies.iter().all(|copy| *copy == copies[0]), "and settled");
        }
    }
}

#[test]
fn a_state_of_which_no_copy_is_whole_is_never_reset() {
    let (directory, _) = saved();
    let whole = contents(directory.path());
    let half = |index: usize| whole[index].as_ref().map(|it| it[..it.len() / 2].to_vec());
    for bad in [
        [half(0), half(1), half(2), half(3)],
        [half(0), None, None, None],
        [None, None, None, half(3)],
        [Some(Vec::new()), None, None, None],
    ] {
        put(directory.path(), &bad);
        let refused = open(directory.path()).unwrap_err();
        assert_eq!(refused.code(), "disk_damaged", "{refused}");
        assert!(refused.to_string().contains("replace-voter"), "it says what to do");
        assert_eq!(contents(directory.path()), bad, "nothing was changed");
    }
}

#[test]
fn a_save_that_is_settled_is_in_all_files() {
    let (directory, state) = saved();
    let (mut disk, _) = open(directory.path()).unwrap();
    disk.save(&state).unwrap();
    disk.settle().unwrap();
    let settled = contents(directory.path());
    assert!(settled.iter().all(|copy| copy.is_some() && *copy == settled[0]));
    disk.settle().unwrap();
    assert_eq!(contents(directory.path()), settled, "and then there is nothing to do");
}

#[test]
fn what_makes_no_sense_is_not_taken_although_it_is_whole() {
    let codec = Codec::new(CLUSTER.to_owned());
    let known = Body { sequence: 7, ..Body::known(&codec, &state()) };
    let (directory, _) = saved();
    let check = |body: &Body, said: &str| {
        put(directory.path(), &[Some(body.encode()), None, Some(body.encode()), None]);
        let refused = open(directory.path()).unwrap_err();
        assert_eq!(refused.code(), "disk_other_release");
        assert!(refused.to_string().contains(said), "{refused}");
    };
    put(directory.path(), &[Some(known.encode()), None, None, None]);
    assert!(open(directory.path()).is_ok());
    check(&known.with(|it| it.installed = None), "installed is missing");
    check(&known.with(|it| it.accepted_in = None), "accepted_in is missing");
    check(&known.with(|it| it.accepted = it.installed.clone()), "the epoch is not the next one");
    check(&known.with(|it| it.tentative = None), "tentative is missing");
    check(&known.with(|it| it.tentative = it.installed.clone()), "the epoch is not the next one");
    let other_table = |it: &mut Body| it.installed.as_mut().unwrap().table ^= 1;
    check(&known.with(other_table), "place keys differently");
}

impl Body {
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut body = self.clone();
        change(&mut body);
        body
    }
}

#[test]
fn what_cannot_be_used_as_a_directory_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "").unwrap();
    assert_eq!(open(&path).unwrap_err().code(), "disk");
    assert_eq!(open(&path.join("below")).unwrap_err().code(), "disk");
}

#[test]
fn a_directory_is_free_when_its_disk_is_dropped_although_a_child_still_holds_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _) = open(directory.path()).unwrap();
    // What a process that was forked and has not become another program yet has of it.
    let held = disk.copies.medium.hold_lock();
    drop(disk);
    assert!(open(directory.path()).is_ok());
    drop(held);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_state_is_read_as_it_was_saved(
        installed in records(),
        promised in prop::option::of(ballots()),
        votes in [prop::option::of((ballots(), changes())), prop::option::of((ballots(), changes()))],
    ) {
        let [accepted, tentative] =
            votes.map(|vote| vote.and_then(|(ballot, it)| Some((ballot, installed.next(&it).ok()?))));
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, stored) = open(directory.path()).unwrap();
        let Stored::Newcomer(id) = stored else { panic!("nothing was there") };
        let state = VoterState { id, installed, promised, accepted, tentative };
        disk.save(&VoterState::first(id, first()))?;
        disk.save(&state)?;
        drop(disk);
        prop_assert_eq!(open(directory.path()).unwrap().1, Stored::Known(Box::new(state)));
    }
}
