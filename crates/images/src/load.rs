//! From a file on disk to authenticated bytes that nobody can change any more.
//!
//! The file is opened once and read once. Each block that is read is hashed and put into an anonymous file in
//! memory (`memfd`); that one is sealed before the authentication code is compared. So what is mapped later is what
//! was authenticated, whatever happens to the file on disk. The price is that an image in use is in memory, not in
//! the page cache: one copy for all that use it. What the code means is not known here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use forerun_types::ImageKey;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use crate::files;
use crate::flaw::Flaw;
use crate::format::{self, CODE_BYTES, HEADER_BYTES, Header};
use crate::meta::ImageMeta;

/// Bytes read at a time: fits the second-level cache of a core, so that hashing and copying find them there.
const BLOCK_BYTES: usize = 256 << 10;
/// From this size on a second thread pays: below, starting it costs more than it saves.
const SIDE_BY_SIDE_BYTES_MIN: u64 = 2 << 20;
/// Blocks on their way between two threads: enough that neither waits for the other's single block.
const BLOCKS_UNDER_WAY: usize = 4;
/// Nothing can be added, removed or changed, nor any of this be taken back.
///
/// `FUTURE_WRITE` (Linux 5.1) refuses `write` and each new writable mapping. `WRITE` also asks that none is there
/// already; there is none, as nobody has mapped the file yet. But it finds out by walking all pages, and refuses with
/// `EBUSY` where the kernel itself holds one of them for longer than a tenth of a second, as a busy machine does.
const SEALS: SealFlags = SealFlags::FUTURE_WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// An authenticated image: its payload in a sealed file in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) key: ImageKey,
    pub(crate) meta: ImageMeta,
    pub(crate) payload: File,
    pub(crate) payload_bytes: u64,
}

/// Why a file did not become an image.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It is not there.
    Absent,
    /// It is no good.
    Flawed(Flaw),
    /// The system failed; the file may be good.
    Io(io::Error),
}

impl From<Flaw> for LoadError {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Loads the image of `key` from the file at `path`, which may be `bytes_max` bytes long.
pub(crate) fn load(path: &Path, key: &ImageKey, mac_key: &[u8; 32], bytes_max: u64) -> Result<Loaded, LoadError> {
    let mut file = match files::open_plain(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LoadError::Absent),
        // A symbolic link in place of the file: we make none.
        Err(error) if files::is_link(&error) => return Err(Flaw::ForeignFormat.into()),
        Err(error) => return Err(error.into()),
    };
    let bytes = checked_length(&file, bytes_max)?;
    let mut hasher = blake3::Hasher::new_keyed(mac_key);
    let (header, meta) = read_head(&mut file, bytes, key, &mut hasher)?;
    let payload = copy_payload(&mut file, header.payload_bytes, &mut hasher)?;
    let mut code = [0; CODE_BYTES];
    read_whole(&mut file, &mut code)?;
    // Compares in constant time.
    if hasher.finalize() != code {
        return Err(Flaw::Tampered.into());
    }
    // Authentic, so this release or one with the same format version wrote it.
    let meta = serde_json::from_slice(&meta).map_err(|_| Flaw::ForeignFormat)?;
    Ok(Loaded { key: *key, meta, payload, payload_bytes: header.payload_bytes })
}

/// What the file says about itself, for a list to be shown. Consistent with the file's length, but not authenticated.
pub(crate) fn peek(path: &Path, key: &ImageKey, bytes_max: u64) -> Result<(u64, Option<ImageMeta>), LoadError> {
    let mut file = files::open_plain(path)?;
    let bytes = checked_length(&file, bytes_max)?;
    let (_, meta) = read_head(&mut file, bytes, key, &mut blake3::Hasher::new())?;
    Ok((bytes, serde_json::from_slice(&meta).ok()))
}

/// The length of a plain file of no more than `bytes_max` bytes.
fn checked_length(file: &File, bytes_max: u64) -> Result<u64, LoadError> {
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(Flaw::ForeignFormat.into());
    }
    let bytes = facts.len();
    if bytes > bytes_max {
        return Err(Flaw::TooLarge { bytes, max: bytes_max }.into());
    }
    Ok(bytes)
}

fn read_head(
    file: &mut File,
    file_bytes: u64,
    key: &ImageKey,
    hasher: &mut blake3::Hasher,
) -> Result<(Header, Vec<u8>), LoadError> {
    let mut head = [0; HEADER_BYTES];
    read_whole(file, &mut head)?;
    let header = format::parse(&head, file_bytes, key)?;
    let mut meta = vec![0; header.meta_bytes];
    read_whole(file, &mut meta)?;
    hasher.update(&head);
    hasher.update(&meta);
    Ok((header, meta))
}

/// Copies the next `bytes` bytes of `file` into a file in memory, hashes them on the way, and seals the copy.
fn copy_payload(file: &mut File, bytes: u64, hasher: &mut blake3::Hasher) -> Result<File, LoadError> {
    let mut copy = anonymous_file()?;
    if bytes < SIDE_BY_SIDE_BYTES_MIN {
        let mut block = vec![0; BLOCK_BYTES];
        for length in blocks(bytes) {
            let block = &mut block[..length];
            read_whole(file, block)?;
            hasher.update(block);
            copy.write_all(block)?;
        }
    } else {
        copy_side_by_side(file, &copy, bytes, hasher)?;
    }
    fcntl_add_seals(&copy, SEALS).map_err(io::Error::from)?;
    let sealed = fcntl_get_seals(&copy).map_err(io::Error::from)?.contains(SEALS) && copy.metadata()?.len() == bytes;
    if sealed { Ok(copy) } else { Err(io::Error::other("the copy in memory could not be sealed").into()) }
}

/// Reads and hashes here while another thread writes what was hashed: most of the time goes into pages for the copy.
/// A block has one owner at a time, so what is written is what was hashed.
fn copy_side_by_side(
    file: &mut File,
    mut copy: &File,
    bytes: u64,
    hasher: &mut blake3::Hasher,
) -> Result<(), LoadError> {
    let (hashed, to_write) = mpsc::channel::<Vec<u8>>();
    let (written, to_fill) = mpsc::channel();
    let free = std::iter::repeat_with(|| vec![0; BLOCK_BYTES]).take(BLOCKS_UNDER_WAY);
    // The other end is in this function.
    free.for_each(|block| drop(written.send(block)));
    thread::scope(|scope| {
        let write = move || -> io::Result<()> {
            for block in to_write {
                copy.write_all(&block)?;
                // Nobody waits for the last ones.
                let _ = written.send(block);
            }
            Ok(())
        };
        let writer = thread::Builder::new().name("image-copy".into()).spawn_scoped(scope, write)?;
        let read = read_and_hash(file, bytes, hasher, &to_fill, hashed);
        let write = writer.join().unwrap_or_else(|_| Err(io::Error::other("copying an image panicked")));
        write.map_err(LoadError::Io).and(read)
    })
}

/// Ends early, without an error of its own, when the other thread has ended: that one says why.
fn read_and_hash(
    file: &mut File,
    bytes: u64,
    hasher: &mut blake3::Hasher,
    to_fill: &mpsc::Receiver<Vec<u8>>,
    hashed: mpsc::Sender<Vec<u8>>,
) -> Result<(), LoadError> {
    for length in blocks(bytes) {
        let Ok(mut block) = to_fill.recv() else { break };
        block.truncate(length);
        read_whole(file, &mut block)?;
        hasher.update(&block);
        if hashed.send(block).is_err() {
            break;
        }
    }
    // Tells the other thread that this was all.
    drop(hashed);
    Ok(())
}

/// Lengths of the blocks that make up `bytes` bytes: all whole but the last.
fn blocks(bytes: u64) -> impl Iterator<Item = usize> {
    let whole = bytes / BLOCK_BYTES as u64;
    let rest = (bytes % BLOCK_BYTES as u64) as usize;
    (0..whole).map(|_| BLOCK_BYTES).chain((rest > 0).then_some(rest))
}

/// An empty file in memory. Where the kernel knows the flag (6.3), it can be mapped as code but never be a program.
fn anonymous_file() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create("forerun-image", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(rustix::io::Errno::INVAL) => memfd_create("forerun-image", flags),
        made => made,
    };
    Ok(file?.into())
}

/// Fills `bytes` from the file; one that ends earlier was cut off.
fn read_whole(file: &mut File, bytes: &mut [u8]) -> Result<(), LoadError> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => LoadError::Flawed(Flaw::Torn),
        _ => LoadError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    use forerun_types::{ComponentDigest, EngineFingerprint, ProfileDigest};

    use super::*;
    use crate::meta::{ImageLabel, PassNotes};

    const MAC_KEY: [u8; 32] = [9; 32];
    const BYTES_MAX: u64 = 8 << 20;

    fn key(component: &[u8]) -> ImageKey {
        ImageKey {
            component: ComponentDigest::of(component),
            profile: ProfileDigest::of(b""),
            engine: EngineFingerprint::of(b""),
        }
    }

    fn content(key: &ImageKey, payload: &[u8]) -> Vec<u8> {
        let label = ImageLabel::new("t0").unwrap();
        let meta = ImageMeta { created_unix_ms: 1, build_ms: 2, label, passes: PassNotes::default() };
        let head = format::head(key, &meta, payload.len() as u64);
        let code = blake3::Hasher::new_keyed(&MAC_KEY).update(&head).update(payload).finalize();
        [&head, payload, code.as_bytes()].concat()
    }

    fn written(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = directory.path().join("file");
        fs::write(&path, content).unwrap();
        (directory, path)
    }

    fn flaw_of(path: &Path, key: &ImageKey) -> Flaw {
        match load(path, key, &MAC_KEY, BYTES_MAX) {
            Err(LoadError::Flawed(flaw)) => flaw,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_given_out_is_the_payload_and_cannot_be_changed() {
        for bytes in [1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5, SIDE_BY_SIDE_BYTES_MIN as usize, (4 << 20) + 5] {
            check_given_out(bytes);
        }
    }

    fn check_given_out(bytes: usize) {
        let payload: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        let (_directory, path) = written(&content(&key(b"a"), &payload));
        let loaded = load(&path, &key(b"a"), &MAC_KEY, BYTES_MAX).unwrap();
        fs::write(&path, b"something else").unwrap();
        let mut found = vec![0; payload.len() + 1];
        assert_eq!(loaded.payload.read_at(&mut found, 0).unwrap(), payload.len());
        assert_eq!(found[..payload.len()], payload);
        assert_eq!((loaded.payload_bytes, loaded.meta.build_ms), (payload.len() as u64, 2));
        loaded.payload.write_at(b"x", 0).unwrap_err();
        loaded.payload.set_len(0).unwrap_err();
        loaded.payload.set_len(16 << 20).unwrap_err();
        assert!(fcntl_get_seals(&loaded.payload).unwrap().contains(SEALS));
        // Opened anew through the process's own table it can still not be changed.
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&loaded.payload));
        if let Ok(again) = fs::OpenOptions::new().write(true).open(again) {
            again.write_at(b"x", 0).unwrap_err();
        }
    }

    #[test]
    fn a_large_image_is_checked_to_its_last_block() {
        let payload = vec![7; 4 << 20];
        let good = content(&key(b"a"), &payload);
        let (_directory, path) = written(&good);
        for offset in [200, good.len() / 2, good.len() - CODE_BYTES - 1] {
            let mut bad = good.clone();
            bad[offset] ^= 1;
            fs::write(&path, bad).unwrap();
            assert_eq!(flaw_of(&path, &key(b"a")), Flaw::Tampered);
        }
        // A file that becomes shorter while it is read.
        fs::write(&path, &good).unwrap();
        let mut file = File::open(&path).unwrap();
        let longer = good.len() as u64 + 1;
        let result = copy_payload(&mut file, longer, &mut blake3::Hasher::new());
        assert!(matches!(result, Err(LoadError::Flawed(Flaw::Torn))), "{result:?}");
    }

    /// Every single bit of a small file, so every region of it.
    #[test]
    fn any_changed_bit_is_found() {
        let good = content(&key(b"a"), b"machine code");
        let (_directory, path) = written(&good);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (offset, byte) in good.iter().enumerate() {
            for bit in 0..8 {
                file.write_at(&[byte ^ 1 << bit], offset as u64).unwrap();
                let flaw = flaw_of(&path, &key(b"a"));
                let expected = match offset {
                    0..8 => matches!(flaw, Flaw::ForeignFormat),
                    8..12 => matches!(flaw, Flaw::ForeignFormat | Flaw::NewerFormat { .. }),
                    // A shorter meta leaves a longer payload: only the authentication code tells.
                    12..16 => matches!(flaw, Flaw::Tampered),
                    16..24 => matches!(flaw, Flaw::Torn),
                    24..88 => matches!(flaw, Flaw::OtherKey),
                    88..120 => matches!(flaw, Flaw::ForeignEngine),
                    _ => matches!(flaw, Flaw::Tampered),
                };
                assert!(expected, "offset {offset} bit {bit}: {flaw:?}");
            }
            file.write_at(&[*byte], offset as u64).unwrap();
        }
        load(&path, &key(b"a"), &MAC_KEY, BYTES_MAX).unwrap();
    }

    #[test]
    fn any_other_length_is_torn() {
        let good = content(&key(b"a"), b"machine code");
        let (_directory, path) = written(&good);
        for length in (0..good.len()).chain([good.len() + 1]) {
            let mut content = good.clone();
            content.resize(length, 0);
            fs::write(&path, content).unwrap();
            assert_eq!(flaw_of(&path, &key(b"a")), Flaw::Torn, "{length}");
        }
    }

    #[test]
    fn the_code_binds_payload_and_key_together() {
        let (a, b) = (content(&key(b"a"), b"payload of a"), content(&key(b"b"), b"payload of b"));
        let (_directory, path) = written(&b);
        assert_eq!(flaw_of(&path, &key(b"a")), Flaw::OtherKey);
        // The payload, and then also the code, of b under the head of a.
        let at = a.len() - CODE_BYTES - b"payload of a".len();
        fs::write(&path, [&a[..at], b"payload of b", &a[a.len() - CODE_BYTES..]].concat()).unwrap();
        assert_eq!(flaw_of(&path, &key(b"a")), Flaw::Tampered);
        fs::write(&path, [&a[..at], &b[at..]].concat()).unwrap();
        assert_eq!(flaw_of(&path, &key(b"a")), Flaw::Tampered);
        // All of b, with the key of a written over its own.
        fs::write(&path, [&b[..24], &a[24..120], &b[120..]].concat()).unwrap();
        assert_eq!(flaw_of(&path, &key(b"a")), Flaw::Tampered);
    }

    #[test]
    fn another_secret_does_not_do() {
        let (_directory, path) = written(&content(&key(b"a"), b"machine code"));
        let result = load(&path, &key(b"a"), &[8; 32], BYTES_MAX);
        assert!(matches!(result, Err(LoadError::Flawed(Flaw::Tampered))), "{result:?}");
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let (directory, path) = written(&content(&key(b"a"), b"machine code"));
        let (link, pipe) = (directory.path().join("link"), directory.path().join("pipe"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(flaw_of(&link, &key(b"a")), Flaw::ForeignFormat);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(flaw_of(&pipe, &key(b"a")), Flaw::ForeignFormat);
        assert_eq!(flaw_of(directory.path(), &key(b"a")), Flaw::ForeignFormat);
        let length = fs::metadata(&path).unwrap().len();
        let result = load(&path, &key(b"a"), &MAC_KEY, length - 1);
        assert!(matches!(result, Err(LoadError::Flawed(Flaw::TooLarge { .. }))), "{result:?}");
        let absent = load(&directory.path().join("absent"), &key(b"a"), &MAC_KEY, BYTES_MAX);
        assert!(matches!(absent, Err(LoadError::Absent)));
    }
}
