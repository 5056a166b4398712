//! The books of a node, and their file: all that is known of which code requests run. What is in a book is not known here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use forerun_types::FunctionName;
use parking_lot::{Mutex, MutexGuard};
use serde::Serializer;
use serde::ser::SerializeMap;

use super::book::Book;
use super::{BOOKS_MAX, Entry, SharedEntry};
use crate::ahead::Ahead;
use crate::background::in_background;

/// Largest file of books that is read.
const FILE_BYTES_MAX: u64 = 512 << 20;

type Entries = BTreeMap<FunctionName, SharedEntry>;

/// What was learnt before, which takes some milliseconds to be read: a thread does that while a node starts.
pub(crate) struct Learnt {
    file: PathBuf,
    books: Ahead<BTreeMap<FunctionName, Book>>,
}

impl Learnt {
    /// Begins to read what is kept in a data directory.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let file = directory.join("paths.json");
        let path = file.clone();
        let read = move || {
            // No request needs it, and the first ones come soon.
            in_background();
            read_books(&path)
        };
        Ok(Self { file, books: Ahead::begin("forerun-books", read)? })
    }
}

/// The books by function. Whoever needs them waits until they are read.
pub(super) struct Books {
    file: PathBuf,
    being_read: Mutex<Option<Ahead<BTreeMap<FunctionName, Book>>>>,
    entries: OnceLock<Mutex<Entries>>,
}

impl Books {
    pub(super) fn new(Learnt { file, books }: Learnt) -> Self {
        Self { file, being_read: Mutex::new(Some(books)), entries: OnceLock::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.get_or_init(|| Mutex::new(self.when_read())).lock()
    }

    /// Nothing while they are being read.
    pub(super) fn lock_if_read(&self) -> Option<MutexGuard<'_, Entries>> {
        self.entries.get().map(Mutex::lock)
    }

    fn when_read(&self) -> Entries {
        let books = self.being_read.lock().take().and_then(Ahead::get).unwrap_or_else(|| self.without());
        let entry = |book| SharedEntry::new(Mutex::new(Entry { book, ..Entry::default() }));
        books.into_iter().map(|(name, book)| (name, entry(book))).collect()
    }

    /// No books, where reading them panicked; what caused it is kept, under another name.
    fn without(&self) -> BTreeMap<FunctionName, Book> {
        // Where that fails, too, the file is soon written anew.
        let _ = fs::rename(&self.file, self.file.with_extension("unusable"));
        BTreeMap::new()
    }

    pub(super) fn write(&self) -> io::Result<()> {
        let entries: Vec<_> = self.lock().iter().map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect();
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::new(&mut text);
        let mut books = serializer.serialize_map(Some(entries.len()))?;
        for (name, entry) in &entries {
            books.serialize_entry(name, &entry.lock().book)?;
        }
        books.end()?;
        let partial = self.file.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&partial, &self.file)
    }
}

/// The books on disk; none, with a word in the log, if they cannot be used.
fn read_books(path: &Path) -> BTreeMap<FunctionName, Book> {
    let read = || -> io::Result<BTreeMap<FunctionName, Book>> {
        let file = File::open(path)?;
        if file.metadata()?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("the file is too large"));
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        let books: BTreeMap<FunctionName, Book> = serde_json::from_slice(&text)?;
        let checked = |(name, book): (FunctionName, Book)| Some((name, book.checked()?));
        let sound: Option<BTreeMap<_, _>> = books.into_iter().take(BOOKS_MAX).map(checked).collect();
        sound.ok_or_else(|| io::Error::other("its numbers contradict each other"))
    };
    match read() {
        Ok(books) => books,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "what was learnt of code paths cannot be used: learning anew");
            BTreeMap::new()
        }
    }
}
