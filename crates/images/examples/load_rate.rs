//! Measures what it costs to load an image: read, authenticate, copy, seal. Run with
//! `cargo run --release -p forerun-images --example load_rate <empty directory> [megabytes]`.

#![allow(clippy::print_stdout, reason = "the figures are its result")]

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use forerun_images::{
    CacheSecret, Claim, ImageCache, ImageCacheSettings, ImageLabel, ImageMeta, PassNotes, SystemClock, VerifiedPayload,
};
use forerun_types::{ComponentDigest, EngineFingerprint, ImageKey, ProfileDigest};

const LOADS: usize = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: load_rate <empty directory> [megabytes]")?);
    let bytes = arguments.next().map_or(Ok(36), |text| text.parse::<usize>())? * 1_000_000;
    let engine = EngineFingerprint::of(b"engine");
    let secret = CacheSecret::read_or_create(&directory)?;
    let (settings, clock) = (ImageCacheSettings::default(), Box::new(SystemClock));
    let cache = ImageCache::open(&directory.join("images"), &secret, &[engine], settings, clock)?;
    let key = ImageKey { component: ComponentDigest::of(b"c"), profile: ProfileDigest::of(b"p"), engine };
    let payload: Vec<u8> =
        (0..bytes as u64).map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();

    let Claim::Yours(ticket) = cache.claim(&key) else { return Err("the directory is not empty".into()) };
    let (label, passes) = (ImageLabel::new("t0")?, PassNotes::default());
    let meta = ImageMeta { created_unix_ms: 0, build_ms: 0, label, passes };
    let begin = Instant::now();
    cache.publish(ticket, VerifiedPayload::vouch(&payload), &meta, 1.0)?;
    println!("publish, synced      {:>8.2} ms", begin.elapsed().as_secs_f64() * 1e3);

    show("hash alone, in memory", || {
        black_box(blake3::keyed_hash(&[0; 32], &payload));
    });
    // Each lease is the only one, so each time the file is read.
    show("get and return", || {
        black_box(cache.get(&key)).expect("the image is there");
    });
    let counters = cache.counters();
    println!("of that, the load      mean {:.3} ms", counters.load_us_total as f64 / 1e3 / counters.loads as f64);
    let lease = cache.get(&key)?;
    show("get while leased", || {
        black_box(cache.get(&key)).expect("the image is there");
    });
    drop(lease);
    Ok(())
}

fn show(what: &str, mut work: impl FnMut()) {
    let mut ms: Vec<_> = (0..LOADS)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    ms.sort_by(f64::total_cmp);
    println!("{what:<22} p50 {:.3} ms, min {:.3}, max {:.3}", ms[LOADS / 2], ms[0], ms[LOADS - 1]);
}
