//! Random operations, damage and restarts against a model that is a map in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;

use forerun_images::{Claim, DiscardReason, Discarded, ImageCache, ImageLease, Miss, PublishError, VerifiedPayload};
use proptest::prelude::*;
use support::*;

const KEYS: u64 = 9;

#[derive(Debug, Clone)]
enum Step {
    Build { key: u64, bytes: usize, value: u8 },
    Fail(u64),
    Get(u64),
    Return(u64),
    Value(u64, u8),
    Discard(u64, bool),
    Flip(u64, u64),
    Remove(u64),
    RemoveFolder,
    Clock(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        8 => (key.clone(), 0..1_900usize, 0..4u8).prop_map(|(key, bytes, value)| Step::Build { key, bytes, value }),
        2 => key.clone().prop_map(Step::Fail),
        6 => key.clone().prop_map(Step::Get),
        3 => key.clone().prop_map(Step::Return),
        3 => (key.clone(), 0..4u8).prop_map(|(key, value)| Step::Value(key, value)),
        1 => (key.clone(), any::<bool>()).prop_map(|(key, cause)| Step::Discard(key, cause)),
        1 => (key.clone(), any::<u64>()).prop_map(|(key, at)| Step::Flip(key, at)),
        1 => key.prop_map(Step::Remove),
        1 => Just(Step::RemoveFolder),
        2 => (0..4 * HOUR_MS).prop_map(Step::Clock),
        1 => Just(Step::Restart),
    ]
}

/// Why an absent key is absent, by label.
type Why = &'static str;

#[derive(Clone, Debug)]
struct Image {
    bytes: u64,
    /// On disk and as it was written.
    good: bool,
    on_disk: bool,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    image: Option<Image>,
    why: Option<Why>,
    value: u8,
    last_use: u64,
    failures: u32,
    discards: u32,
    blocked_until: u64,
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    uses: u64,
    now: u64,
}

impl Model {
    fn entry(&mut self, key: u64) -> &mut Entry {
        self.entries.entry(key).or_default()
    }

    fn stored_bytes(&self) -> u64 {
        self.entries.values().filter_map(|entry| entry.image.as_ref()).map(|image| image.bytes).sum()
    }

    fn stored(&self) -> Vec<u64> {
        self.entries.iter().filter(|(_, entry)| entry.image.is_some()).map(|(key, _)| *key).collect()
    }

    fn used(&mut self, key: u64) {
        self.uses += 1;
        let uses = self.uses;
        self.entry(key).last_use = uses;
    }

    /// Removes one image after the other until the new one fits; `None` if it cannot.
    fn make_room(&self, bytes: u64, value: u8, leased: impl Fn(u64) -> bool) -> Option<Vec<u64>> {
        let (mut free, mut images) = (4_000 - self.stored_bytes(), self.stored().len());
        let mut order: Vec<_> = self.stored().into_iter().filter(|key| !leased(*key)).collect();
        order.retain(|key| self.entries[key].value <= value);
        order.sort_by_key(|key| (self.entries[key].value, self.entries[key].last_use));
        let mut victims = Vec::new();
        for key in order {
            if free >= bytes && images < 6 {
                break;
            }
            free += self.entries[&key].image.as_ref().unwrap().bytes;
            images -= 1;
            victims.push(key);
        }
        (free >= bytes && images < 6).then_some(victims)
    }
}

struct World {
    directory: tempfile::TempDir,
    clock: HandClock,
    cache: ImageCache,
    leases: BTreeMap<u64, Vec<(ImageLease, usize)>>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let (directory, clock) = (folder(), HandClock::default());
        let cache = open_with(directory.path(), small(), &clock);
        Self { directory, clock, cache, leases: BTreeMap::new(), model: Model::default() }
    }

    fn leased(&self, key: u64) -> bool {
        self.leases.get(&key).is_some_and(|leases| !leases.is_empty())
    }

    /// The ticket the model says there is, or nothing if both say that there is none.
    fn claim(&mut self, number: u64) -> Option<forerun_images::BuildTicket> {
        let now = self.model.now;
        let entry = self.model.entry(number);
        match self.cache.claim(&key(number)) {
            Claim::Yours(ticket) => {
                assert!(entry.image.is_none() && entry.blocked_until <= now);
                Some(ticket)
            }
            Claim::Present => {
                assert!(entry.image.is_some());
                None
            }
            Claim::BackingOff { until_unix_ms, failures } | Claim::Quarantined { until_unix_ms, failures } => {
                let expected = (entry.blocked_until, entry.failures + entry.discards);
                assert!(entry.image.is_none() && entry.blocked_until > now);
                assert_eq!((until_unix_ms, failures), expected);
                None
            }
            other => panic!("{other:?}"),
        }
    }

    fn build(&mut self, number: u64, bytes: usize, value: u8) {
        let Some(ticket) = self.claim(number) else { return };
        let content = payload(number, bytes);
        let result = self.cache.publish(ticket, VerifiedPayload::vouch(&content), &meta(), value.into());
        let file_bytes = bytes as u64 + around();
        let victims = self.model.make_room(file_bytes, value, |key| self.leased(key));
        let now = self.model.now;
        match result {
            Ok(published) => {
                assert!(bytes > 0 && file_bytes <= 2_000);
                let victims = victims.expect("the model has room, too");
                assert_eq!((published.file_bytes, published.evicted), (file_bytes, victims.len()));
                for victim in victims {
                    let entry = self.model.entry(victim);
                    (entry.image, entry.why) = (None, Some("evicted"));
                }
                self.leases.remove(&number);
                let entry = self.model.entry(number);
                entry.image = Some(Image { bytes: file_bytes, good: true, on_disk: true });
                (entry.value, entry.failures, entry.blocked_until) = (value, 0, 0);
                self.model.used(number);
            }
            Err(PublishError::Empty | PublishError::TooLarge { .. }) => {
                assert!(bytes == 0 || file_bytes > 2_000);
                self.failed(number);
            }
            Err(PublishError::NoRoom { .. }) => {
                assert_eq!(victims, None);
                let entry = self.model.entry(number);
                (entry.blocked_until, entry.why) = (now + 60_000, None);
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn failed(&mut self, number: u64) {
        let now = self.model.now;
        let entry = self.model.entry(number);
        entry.failures += 1;
        let wait_ms = match entry.failures {
            1 => 30_000,
            2 => 60_000,
            more => (HOUR_MS << (more - 3)).min(7 * 24 * HOUR_MS),
        };
        (entry.blocked_until, entry.why) = (now + wait_ms, None);
    }

    fn get(&mut self, number: u64) {
        let leased = self.leased(number);
        let result = self.cache.get(&key(number));
        let now = self.model.now;
        let entry = self.model.entry(number);
        let Some(image) = entry.image.clone() else {
            let expected = match (entry.blocked_until > now, entry.why) {
                (true, _) => vec!["backing_off", "quarantined"],
                (false, Some(why)) => vec![why],
                (false, None) => vec!["never_built"],
            };
            let label = result.unwrap_err().label();
            assert!(expected.contains(&label), "{label} but {expected:?}");
            return;
        };
        // In memory it stays good, whatever happens to its file.
        if leased || (image.good && image.on_disk) {
            let lease = result.unwrap();
            let bytes = usize::try_from(image.bytes - around()).unwrap();
            self.leases.entry(number).or_default().push((lease, bytes));
            self.model.used(number);
            return;
        }
        let miss = result.unwrap_err();
        match (&miss, image.on_disk) {
            (Miss::Vanished, false) | (Miss::Flawed(_), true) => {}
            (other, _) => panic!("{other}"),
        }
        (entry.image, entry.why) = (None, Some(miss.label()));
    }

    fn discard(&mut self, number: u64, cause: bool) {
        let reason = match cause {
            true => DiscardReason::Misbehaved { detail: "another answer".into() },
            false => DiscardReason::Operator,
        };
        let result = self.cache.discard(&key(number), reason);
        let now = self.model.now;
        let entry = self.model.entry(number);
        let Some(image) = entry.image.take() else { return assert_eq!(result, Discarded::NotThere) };
        assert_eq!(result, Discarded::Removed { bytes: image.bytes });
        entry.why = Some("discarded");
        if cause {
            entry.discards += 1;
            entry.blocked_until = now + (HOUR_MS << (entry.discards - 1)).min(7 * 24 * HOUR_MS);
        }
        self.leases.remove(&number);
    }

    fn flip(&mut self, number: u64, at: u64) {
        let path = path(self.directory.path(), &key(number));
        let Some(image) = self.model.entry(number).image.as_mut().filter(|image| image.on_disk && image.good) else {
            return;
        };
        let mut bytes = fs::read(&path).unwrap();
        // Behind the head, so that a start does not see it yet.
        let at = 120 + usize::try_from(at % (image.bytes - 120)).unwrap();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        image.good = false;
    }

    fn remove(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            let _ = fs::remove_file(path(self.directory.path(), &key(number)));
            if let Some(image) = self.model.entry(number).image.as_mut() {
                image.on_disk = false;
            }
        }
    }

    fn restart(&mut self) {
        self.leases.clear();
        self.cache.save();
        self.cache = open_with(self.directory.path(), small(), &self.clock);
        for entry in self.model.entries.values_mut() {
            if entry.image.as_ref().is_some_and(|image| !image.on_disk) {
                (entry.image, entry.why) = (None, Some("vanished"));
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Build { key, bytes, value } => self.build(key, bytes, value),
            Step::Fail(number) => {
                if let Some(ticket) = self.claim(number) {
                    self.cache.fail(ticket, "trap");
                    self.failed(number);
                }
            }
            Step::Get(number) => self.get(number),
            Step::Return(number) => drop(self.leases.get_mut(&number).and_then(Vec::pop)),
            Step::Value(number, value) => {
                self.cache.set_value(&key(number), value.into());
                self.model.entry(number).value = value;
            }
            Step::Discard(number, cause) => self.discard(number, cause),
            Step::Flip(number, at) => self.flip(number, at),
            Step::Remove(number) => self.remove([number].into_iter()),
            Step::RemoveFolder => {
                self.cache.save();
                let index = fs::read(self.directory.path().join("images/index"));
                fs::remove_dir_all(self.directory.path().join("images")).unwrap();
                fs::create_dir(self.directory.path().join("images")).unwrap();
                fs::write(self.directory.path().join("images/index"), index.unwrap()).unwrap();
                self.remove(0..KEYS);
            }
            Step::Clock(ms) => {
                self.model.now += ms;
                self.clock.set(self.model.now);
            }
            Step::Restart => self.restart(),
        }
    }

    fn check(&self) {
        let counters = self.cache.counters();
        let stored = self.model.stored();
        assert_eq!((counters.stored_bytes, counters.stored_images), (self.model.stored_bytes(), stored.len() as u64));
        let files = files(self.directory.path());
        let on_disk: Vec<_> =
            stored.iter().filter(|key| self.model.entries[key].image.as_ref().unwrap().on_disk).collect();
        let mut expected: Vec<_> = on_disk.iter().map(|number| path(self.directory.path(), &key(**number))).collect();
        expected.sort();
        assert_eq!(files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), expected);
        assert!(files.iter().map(|(_, bytes)| bytes).sum::<u64>() <= 4_000 && files.len() <= 6);
        let leases: usize = self.leases.values().map(Vec::len).sum();
        assert_eq!(counters.leases, leases as u64);
        for (number, leases) in &self.leases {
            for (lease, bytes) in leases {
                assert_eq!(content(lease), payload(*number, *bytes));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn behaves_as_a_map_of_images(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}
