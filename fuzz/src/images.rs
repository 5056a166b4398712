//! For `images`: an image cache in memory with one file that somebody changed.
//!
//! The format can only be reached through the cache, so every input is a file, opened and read. The key of the cache is
//! not known to whoever changes files: an image that is given out is the one that was published.

use forerun_images::{CacheSecret, Claim, Clock, ImageCache, ImageCacheSettings, ImageLabel, ImageMeta, PassNotes};
use forerun_images::{Published, VerifiedPayload};
use forerun_types::{ComponentDigest, EngineFingerprint, ImageKey, ProfileDigest};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the image holds.
const PAYLOAD: &[u8] = b"machine code of a component, as far as the cache can tell";
/// Bytes that decide one change.
const CHANGE_BYTES: usize = 5;

struct Still;

impl Clock for Still {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

/// The folder of the cache, the name of its one image, and what is in it and in the index.
struct Home {
    folder: tempfile::TempDir,
    image: PathBuf,
    image_bytes: Vec<u8>,
    index_bytes: Vec<u8>,
}

fn key() -> ImageKey {
    ImageKey {
        component: ComponentDigest::of(b"component"),
        profile: ProfileDigest::of(b"profile"),
        engine: EngineFingerprint::of(b"engine"),
    }
}

fn open(folder: &Path) -> Result<ImageCache, forerun_images::OpenError> {
    let settings = ImageCacheSettings { bytes_max: 1 << 16, image_bytes_max: 1 << 14, images_max: 4 };
    let engines = [key().engine];
    ImageCache::open(&folder.join("images"), &CacheSecret::given([7; 32]), &engines, settings, Box::new(Still))
}

fn home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made");
        let cache = open(folder.path()).expect("a new cache can be opened");
        let Claim::Yours(ticket) = cache.claim(&key()) else { panic!("nobody else builds") };
        let label = ImageLabel::new("t0").expect("a label");
        let meta = ImageMeta { created_unix_ms: 1, build_ms: 2, label, passes: PassNotes::default() };
        let published = cache.publish(ticket, VerifiedPayload::vouch(PAYLOAD), &meta, 1.0).expect("there is room");
        let _: Published = published;
        cache.note_served(&key(), 3, 4.0);
        cache.save();
        drop(cache);
        let images = folder.path().join("images");
        let files = std::fs::read_dir(&images).expect("the folder is there").map(|entry| entry.expect("listed").path());
        let image = files.into_iter().find(|path| path.extension().is_some()).expect("the image is a file");
        let read = |path: &Path| std::fs::read(path).expect("it can be read");
        let (image_bytes, index_bytes) = (read(&image), read(&images.join("index")));
        Home { image, image_bytes, index_bytes, folder }
    })
}

/// Changes the image, the index or both as `data` says, opens the cache and asks for the image.
///
/// # Panics
/// If the cache gives out what was not published, cannot be opened, or cannot be used afterwards.
pub fn change_and_get(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let home = home();
    let (mut image, mut index) = (home.image_bytes.clone(), home.index_bytes.clone());
    let changed = if which & 1 == 0 { &mut image } else { &mut index };
    match which >> 1 & 3 {
        // Any bytes at all, or behind the magic and version.
        0 => *changed = data.to_vec(),
        1 => {
            changed.truncate(12);
            changed.extend_from_slice(data);
        }
        _ => data.chunks_exact(CHANGE_BYTES).take(8).for_each(|change| change_one(changed, change)),
    }
    let path = home.folder.path().join("images/index");
    std::fs::write(&home.image, &image).expect("memory is not full");
    std::fs::write(path, &index).expect("memory is not full");
    let cache = open(home.folder.path()).expect("damaged files do not keep the cache from opening");
    let lease = cache.get(&key());
    if let Ok(lease) = &lease {
        let mut bytes = vec![0; PAYLOAD.len() + 1];
        let length = lease.file().read_at(&mut bytes, 0).expect("a file in memory can be read");
        assert_eq!(&bytes[..length], PAYLOAD, "what is given out is what was published");
    }
    assert!(lease.is_ok() || image != home.image_bytes || index != home.index_bytes, "nothing was changed");
    drop((cache.list(), cache.gone(), cache.counters()));
    cache.save();
}

fn change_one(bytes: &mut Vec<u8>, change: &[u8]) {
    let [kind, low, high, value, other] = change else { return };
    if bytes.is_empty() {
        return;
    }
    let place = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
    match kind % 5 {
        0 => bytes[place] = *value,
        1 => bytes[place] ^= 1 << (value % 8),
        2 => bytes.insert(place, *value),
        3 => drop(bytes.drain(place..(place + usize::from(*value)).min(bytes.len()))),
        _ => bytes.extend_from_slice(&[*value, *other]),
    }
}
