//! What the cache promises, one by one, on small images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::thread;

use forerun_images::{
    CacheSecret, Claim, DiscardReason, Discarded, Flaw, Forgiven, GoneReason, ImageCache, ImageCacheSettings, Miss,
    PublishError, VerifiedPayload,
};
use forerun_types::{EngineFingerprint, ImageKey, ImageState, ProfileDigest};
use support::*;

fn state(cache: &ImageCache, number: u64) -> ImageState {
    cache.list().into_iter().find(|row| row.key == key(number)).unwrap().state
}

#[test]
fn gives_out_what_was_published_also_after_a_restart() {
    let directory = folder();
    let cache = open(directory.path());
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::NeverBuilt);
    let published = publish(&cache, 1, 500, 1.0).unwrap();
    assert_eq!((published.file_bytes, published.evicted), (500 + around(), 0));
    for cache in [cache, open(directory.path())] {
        let lease = cache.get(&key(1)).unwrap();
        assert_eq!(content(&lease), payload(1, 500));
        assert_eq!((lease.bytes(), lease.meta(), *lease.key()), (500, &meta(), key(1)));
        assert_eq!(lease.file_cloned().unwrap().metadata().unwrap().len(), 500);
        lease.file().write_at(b"x", 0).unwrap_err();
    }
}

#[test]
fn overlapping_leases_share_one_load() {
    let directory = folder();
    let cache = open(directory.path());
    publish(&cache, 1, 500, 1.0).unwrap();
    assert_eq!(state(&cache, 1), ImageState::Stored);
    let (first, second) = (cache.get(&key(1)).unwrap(), cache.get(&key(1)).unwrap());
    let counters = cache.counters();
    assert_eq!((counters.loads, counters.hits, counters.leases, counters.loaded_bytes), (1, 2, 2, 500));
    drop((first, second));
    assert_eq!(state(&cache, 1), ImageState::Stored);
    cache.pin(&key(1)).unwrap();
    assert_eq!((state(&cache, 1), cache.counters().leases), (ImageState::Loaded, 0));
    drop(cache.get(&key(1)).unwrap());
    assert_eq!(cache.counters().loads, 2);
    cache.unpin(&key(1));
    assert_eq!((state(&cache, 1), cache.counters().loaded_bytes), (ImageState::Stored, 0));
}

#[test]
fn many_threads_load_once_and_build_once() {
    let directory = folder();
    let cache = open(directory.path());
    let claim = || match cache.claim(&key(1)) {
        Claim::Yours(ticket) => {
            let payload = payload(1, 1500);
            cache.publish(ticket, VerifiedPayload::vouch(&payload), &meta(), 1.0).unwrap();
            1
        }
        Claim::UnderWay | Claim::Present => 0,
        other => panic!("{other:?}"),
    };
    let built: i32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(built, 1);
    let leases: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| cache.get(&key(1)).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((leases.len(), cache.counters().loads, cache.counters().leases), (8, 1, 8));
}

/// The reason is given now and later, the file is gone, it is counted, and a new build repairs it.
fn check_refused(change: impl FnOnce(&std::path::Path), expected: &Miss) {
    let directory = folder();
    let cache = open(directory.path());
    publish(&cache, 1, 500, 1.0).unwrap();
    change(&path(directory.path(), &key(1)));
    assert_eq!(cache.get(&key(1)).unwrap_err(), *expected);
    assert_eq!(files(directory.path()), []);
    assert_eq!((cache.counters().gone[expected.label()], cache.counters().stored_bytes), (1, 0));
    assert_eq!(cache.get(&key(1)).unwrap_err(), *expected);
    assert_eq!(open(directory.path()).get(&key(1)).unwrap_err(), *expected);
    assert_eq!(cache.gone().last().unwrap().reason.label(), expected.label());
    publish(&cache, 1, 500, 1.0).unwrap();
    assert_eq!(content(&cache.get(&key(1)).unwrap()), payload(1, 500));
}

fn write_at(offset: u64, bytes: &[u8]) -> impl FnOnce(&std::path::Path) {
    move |path| fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap()
}

#[test]
fn what_fails_a_check_is_removed_counted_and_named() {
    check_refused(write_at(300, b"!"), &Flaw::Tampered.into());
    check_refused(write_at(500 + around() - 1, b"!"), &Flaw::Tampered.into());
    check_refused(write_at(0, b"!"), &Flaw::ForeignFormat.into());
    check_refused(write_at(8, &[9]), &Flaw::NewerFormat { found: 9 }.into());
    check_refused(write_at(30, b"!"), &Flaw::OtherKey.into());
    check_refused(write_at(100, b"!"), &Flaw::ForeignEngine.into());
    check_refused(|path| fs::write(path, b"").unwrap(), &Flaw::Torn.into());
    check_refused(|path| fs::write(path, [0; 2001]).unwrap(), &Flaw::TooLarge { bytes: 2001, max: 2000 }.into());
    check_refused(|path| fs::remove_file(path).unwrap(), &Miss::Vanished);
}

#[test]
fn files_that_change_places_are_refused() {
    let directory = folder();
    let cache = open(directory.path());
    publish(&cache, 1, 500, 1.0).unwrap();
    publish(&cache, 2, 500, 1.0).unwrap();
    let (one, two) = (path(directory.path(), &key(1)), path(directory.path(), &key(2)));
    let swap = directory.path().join("swap");
    fs::rename(&one, &swap).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&swap, &two).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap_err(), Flaw::OtherKey.into());
    assert_eq!(cache.get(&key(2)).unwrap_err(), Flaw::OtherKey.into());
    assert_eq!(files(directory.path()), []);
}

#[test]
fn images_for_other_engines_go_at_start_and_are_never_given_out() {
    let directory = folder();
    let cache = open(directory.path());
    publish(&cache, 1, 500, 1.0).unwrap();
    let other = EngineFingerprint::of(b"engine 2 on cpu a");
    let foreign = ImageKey { engine: other, ..key(1) };
    assert_eq!(cache.get(&foreign).unwrap_err(), Flaw::ForeignEngine.into());
    assert!(matches!(cache.claim(&foreign), Claim::ForeignEngine));
    drop(cache);
    let secret = CacheSecret::given([7; 32]);
    let clock = Box::new(HandClock::default());
    let cache = ImageCache::open(&directory.path().join("images"), &secret, &[other], small(), clock).unwrap();
    assert_eq!(files(directory.path()), []);
    assert_eq!(cache.counters().gone["foreign_engine"], 1);
    // The same image for the engine we have now: missing because of the change, and to be built anew.
    assert_eq!(cache.get(&foreign).unwrap_err(), Flaw::ForeignEngine.into());
    let never = ImageKey { profile: ProfileDigest::of(b"other"), ..foreign };
    assert_eq!(cache.get(&never).unwrap_err(), Miss::NeverBuilt);
    assert!(matches!(cache.claim(&foreign), Claim::Yours(_)));
}

#[test]
fn another_secret_opens_nothing() {
    let directory = folder();
    publish(&open(directory.path()), 1, 500, 1.0).unwrap();
    let secret = CacheSecret::given([8; 32]);
    let clock = Box::new(HandClock::default());
    let cache = ImageCache::open(&directory.path().join("images"), &secret, &[engine()], small(), clock).unwrap();
    assert_eq!(cache.counters().index_lost, 1);
    assert_eq!(cache.get(&key(1)).unwrap_err(), Flaw::Tampered.into());
}

#[test]
fn a_lost_index_loses_statistics_only() {
    let directory = folder();
    let cache = open(directory.path());
    publish(&cache, 1, 500, 1.0).unwrap();
    cache.note_served(&key(1), 10, 25.5);
    cache.fail(ticket(&cache, &key(2)), "trap");
    cache.save();
    let row = |cache: &ImageCache| cache.list().into_iter().find(|row| row.key == key(1)).unwrap();
    let cache = open(directory.path());
    assert_eq!((row(&cache).served, row(&cache).saved_ms, row(&cache).value_ms_per_byte), (10, 25.5, 1.0));
    assert_eq!(state(&cache, 2), ImageState::BackingOff);
    let index = directory.path().join("images/index");
    let good = fs::read(&index).unwrap();
    for damage in 0..4 {
        let mut bytes = good.clone();
        match damage {
            0 => bytes.truncate(good.len() / 2),
            1 => bytes[good.len() / 2] ^= 1,
            2 => bytes[0] ^= 1,
            _ => bytes.clear(),
        }
        fs::write(&index, bytes).unwrap();
        let cache = open(directory.path());
        assert_eq!((cache.counters().index_lost, row(&cache).served), (1, 0));
        cache.get(&key(1)).unwrap();
    }
}

#[test]
fn makes_room_by_value_and_never_at_the_cost_of_a_lease() {
    let directory = folder();
    // Room for three.
    let cache = open(directory.path());
    for (number, value) in [(1, 3.0), (2, 1.0), (3, 2.0)] {
        publish(&cache, number, 1000, value).unwrap();
    }
    assert_eq!(publish(&cache, 4, 1000, 5.0).unwrap().evicted, 1);
    assert_eq!(cache.get(&key(2)).unwrap_err(), Miss::Evicted);
    let lease = cache.get(&key(3)).unwrap();
    cache.set_value(&key(4), 0.5);
    cache.set_value(&key(1), 0.7);
    publish(&cache, 5, 1000, 5.0).unwrap();
    assert_eq!(cache.get(&key(4)).unwrap_err(), Miss::Evicted);
    // Not for one that is worth less than all that may go; nothing is given up then.
    let refused = publish(&cache, 6, 1000, 0.6).unwrap_err();
    let evictable_bytes = 4000 - 3 * (1000 + around());
    assert_eq!(refused, PublishError::NoRoom { bytes: 1000 + around(), evictable_bytes, max: 4000 });
    assert!(matches!(cache.claim(&key(6)), Claim::BackingOff { failures: 0, .. }));
    assert_eq!(cache.counters().stored_images, 3);
    // With everything in use nothing can go.
    let leases = [lease, cache.get(&key(1)).unwrap(), cache.get(&key(5)).unwrap()];
    assert!(matches!(publish(&cache, 7, 1000, 9.0), Err(PublishError::NoRoom { .. })));
    drop(leases);
    publish(&cache, 8, 1000, 9.0).unwrap();
    assert!(matches!(publish(&cache, 9, 2000, 9.0), Err(PublishError::TooLarge { .. })));
    assert_eq!(publish(&cache, 10, 0, 9.0), Err(PublishError::Empty));
}

#[test]
fn lower_limits_hold_from_the_next_start() {
    let directory = folder();
    let cache = open(directory.path());
    for number in 1..=3 {
        publish(&cache, number, 1000, number as f64).unwrap();
    }
    drop(cache);
    let settings = ImageCacheSettings { bytes_max: 1500, ..small() };
    let cache = open_with(directory.path(), settings, &HandClock::default());
    assert_eq!(files(directory.path()), [(path(directory.path(), &key(3)), 1000 + around())]);
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::Evicted);
    let settings = ImageCacheSettings { images_max: 0, ..small() };
    open_with(directory.path(), settings, &HandClock::default());
    assert_eq!(files(directory.path()), []);
}

#[test]
fn failures_back_off_and_end_in_quarantine_that_survives_a_restart() {
    let directory = folder();
    let clock = HandClock::at(1_000_000);
    let mut cache = open_with(directory.path(), small(), &clock);
    let mut now = 1_000_000;
    for (failure, wait_ms) in [(1, 30_000), (2, 60_000), (3, HOUR_MS), (4, 2 * HOUR_MS)] {
        // Dropped or failed is the same.
        match failure % 2 {
            0 => drop(ticket(&cache, &key(1))),
            _ => cache.fail(ticket(&cache, &key(1)), "it trapped"),
        }
        drop(cache);
        cache = open_with(directory.path(), small(), &clock);
        let miss = cache.get(&key(1)).unwrap_err();
        let (until_unix_ms, failures) = (now + wait_ms, failure);
        match failure {
            1 | 2 => assert_eq!(miss, Miss::BackingOff { until_unix_ms, failures }),
            _ => assert_eq!(miss, Miss::Quarantined { until_unix_ms, failures }),
        }
        clock.set(until_unix_ms - 1);
        assert!(!matches!(cache.claim(&key(1)), Claim::Yours(_)));
        now = until_unix_ms;
        clock.set(now);
    }
    cache.fail(ticket(&cache, &key(1)), "it trapped");
    assert_eq!(state(&cache, 1), ImageState::Quarantined);
    assert_eq!(cache.list()[0].why.as_deref(), Some("it trapped"));
    assert_eq!(cache.forgive(&key(1)), Forgiven::Pardoned { failures: 5 });
    assert_eq!(cache.forgive(&key(1)), Forgiven::NothingHeld);
    publish(&cache, 1, 500, 1.0).unwrap();
    assert!(matches!(cache.claim(&key(1)), Claim::Present));
}

#[test]
fn a_jump_of_the_clock_costs_at_most_the_wait_that_was_meant() {
    let directory = folder();
    let clock = HandClock::at(1000 * HOUR_MS);
    let cache = open_with(directory.path(), small(), &clock);
    publish(&cache, 2, 500, 1.0).unwrap();
    (0..3).for_each(|_| {
        cache.forgive(&key(1));
        cache.fail(ticket(&cache, &key(1)), "trap");
    });
    clock.set(0);
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::BackingOff { until_unix_ms: 30_000, failures: 1 });
    clock.set(30_000);
    drop(ticket(&cache, &key(1)));
    clock.set(u64::MAX);
    drop(ticket(&cache, &key(1)));
    clock.set(0);
    cache.get(&key(2)).unwrap();
    assert_eq!(cache.list().into_iter().find(|row| row.key == key(2)).unwrap().age_ms, 0);
}

#[test]
fn what_was_discarded_for_cause_is_quarantined_longer_each_time() {
    let directory = folder();
    let clock = HandClock::at(5 * HOUR_MS);
    let cache = open_with(directory.path(), small(), &clock);
    publish(&cache, 1, 500, 1.0).unwrap();
    let lease = cache.get(&key(1)).unwrap();
    let worse = DiscardReason::Worse { figure: "p50 1.8 times that of 2,041 control requests".into() };
    assert_eq!(cache.discard(&key(1), worse.clone()), Discarded::Removed { bytes: 500 + around() });
    assert_eq!(cache.discard(&key(1), worse.clone()), Discarded::NotThere);
    // Who has it may finish.
    assert_eq!(content(&lease), payload(1, 500));
    let until_unix_ms = 6 * HOUR_MS;
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::Quarantined { until_unix_ms, failures: 1 });
    assert_eq!(cache.gone().last().unwrap().reason, GoneReason::Discarded(worse.clone()));
    clock.set(until_unix_ms);
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::Discarded(worse.clone()));
    publish(&cache, 1, 500, 1.0).unwrap();
    cache.discard(&key(1), worse);
    let until_unix_ms = 8 * HOUR_MS;
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::Quarantined { until_unix_ms, failures: 2 });

    publish(&cache, 2, 500, 1.0).unwrap();
    cache.discard(&key(2), DiscardReason::Superseded);
    assert!(matches!(cache.claim(&key(2)), Claim::Yours(_)));
}

#[test]
fn the_folder_may_be_deleted_while_it_is_used() {
    let directory = folder();
    let cache = open(directory.path());
    publish(&cache, 1, 500, 1.0).unwrap();
    publish(&cache, 2, 500, 1.0).unwrap();
    let lease = cache.get(&key(2)).unwrap();
    fs::remove_dir_all(directory.path().join("images")).unwrap();
    assert_eq!(cache.get(&key(1)).unwrap_err(), Miss::Vanished);
    // What is in use is in memory, and was authenticated.
    assert_eq!(content(&cache.get(&key(2)).unwrap()), payload(2, 500));
    drop(lease);
    assert_eq!(cache.get(&key(2)).unwrap_err(), Miss::Vanished);
    fs::remove_dir_all(directory.path().join("images")).unwrap();
    publish(&cache, 1, 500, 1.0).unwrap();
    assert_eq!(content(&open(directory.path()).get(&key(1)).unwrap()), payload(1, 500));
}

#[test]
fn leftovers_go_and_what_is_not_ours_stays() {
    let directory = folder();
    let images = directory.path().join("images");
    fs::create_dir(&images).unwrap();
    let unfinished = path(directory.path(), &key(1)).with_extension("image.tmp");
    fs::write(&unfinished, b"half").unwrap();
    fs::write(images.join("README"), b"not ours").unwrap();
    open(directory.path());
    assert_eq!(files(directory.path()), [(images.join("README"), 8)]);
}

/// Files in the field are these bytes, authentication code and all. If it fails, raise the format's version; do not
/// edit the digest.
#[test]
fn golden_file() {
    let directory = folder();
    publish(&open(directory.path()), 1, 500, 1.0).unwrap();
    let bytes = fs::read(path(directory.path(), &key(1))).unwrap();
    assert_eq!(
        forerun_types::ComponentDigest::of(&bytes).hex(),
        "6e3dacead2019d6424843317fc2e598ad6ba34d3452619333ff4df5b82ff9bd6"
    );
}
