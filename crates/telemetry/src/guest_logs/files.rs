//! The files of the guests' logs: appended to, set aside when long, read from their ends.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use forerun_types::FunctionName;

/// Read at most, however many lines are asked for: an answer is held in memory.
const TAIL_BYTES_MAX: u64 = 4 << 20;

pub(super) struct LogFiles {
    directory: PathBuf,
    file_bytes_max: u64,
    files_kept: u32,
}

impl LogFiles {
    pub(super) fn open(directory: &Path, file_bytes_max: u64, files_kept: u32) -> io::Result<Self> {
        // What guests print may hold anything; only the owner reads it.
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(Self { directory: directory.to_owned(), file_bytes_max, files_kept })
    }

    /// Appends whole lines. Opened each time: functions are many, and this is done once for many lines.
    pub(super) fn append(&self, function: &FunctionName, lines: &str) -> io::Result<()> {
        let path = self.path(function, 0);
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        if file.metadata()?.len() >= self.file_bytes_max {
            self.set_aside(function)?;
            file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        }
        file.write_all(lines.as_bytes())
    }

    pub(super) fn tail(&self, function: &FunctionName, count: usize) -> io::Result<Vec<String>> {
        let mut bytes = Vec::new();
        for number in 0..=self.files_kept {
            let room = TAIL_BYTES_MAX.saturating_sub(bytes.len() as u64);
            let Some(mut end) = read_end(&self.path(function, number), room)? else { break };
            end.append(&mut bytes);
            bytes = end;
            // One more than asked for, because the first may have been cut by the bound on what is read.
            if bytes.iter().filter(|byte| **byte == b'\n').count() > count || bytes.len() as u64 >= TAIL_BYTES_MAX {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<_> = text.lines().rev().take(count).map(str::to_owned).collect();
        lines.reverse();
        Ok(lines)
    }

    pub(super) fn remove(&self, function: &FunctionName) -> io::Result<()> {
        (0..=self.files_kept).try_for_each(|number| missing_is_fine(fs::remove_file(self.path(function, number))))
    }

    /// Names are safe as file names: see [`FunctionName`].
    fn path(&self, function: &FunctionName, number: u32) -> PathBuf {
        match number {
            0 => self.directory.join(format!("{function}.log")),
            _ => self.directory.join(format!("{function}.log.{number}")),
        }
    }

    fn set_aside(&self, function: &FunctionName) -> io::Result<()> {
        if self.files_kept == 0 {
            return missing_is_fine(fs::remove_file(self.path(function, 0)));
        }
        for number in (0..self.files_kept).rev() {
            missing_is_fine(fs::rename(self.path(function, number), self.path(function, number + 1)))?;
        }
        Ok(())
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The end of a file, from the start of a line on, at most `max` bytes; nothing if there is no file.
fn read_end(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let start = length.saturating_sub(max);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    if start > 0 {
        let line_start = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        bytes.drain(..line_start);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(bytes_max: u64, kept: u32) -> (tempfile::TempDir, LogFiles, FunctionName) {
        let directory = tempfile::tempdir().unwrap();
        let files = LogFiles::open(&directory.path().join("logs"), bytes_max, kept).unwrap();
        (directory, files, "cart".parse().unwrap())
    }

    #[test]
    fn long_files_are_set_aside_and_the_oldest_go() {
        let (_directory, files, cart) = files(10, 2);
        for number in 0..8 {
            files.append(&cart, &format!("line {number}\n")).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&files.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["cart.log", "cart.log.1", "cart.log.2"]);
        let all: Vec<_> = (2..8).map(|number| format!("line {number}")).collect();
        assert_eq!(files.tail(&cart, 100).unwrap(), all);
        assert_eq!(files.tail(&cart, 3).unwrap(), all[3..]);
        files.remove(&cart).unwrap();
        assert_eq!(fs::read_dir(&files.directory).unwrap().count(), 0);
    }

    #[test]
    fn none_need_be_kept() {
        let (_directory, files, cart) = files(1, 0);
        files.append(&cart, "one\n").unwrap();
        files.append(&cart, "two\n").unwrap();
        assert_eq!(files.tail(&cart, 100).unwrap(), ["two"]);
    }

    #[test]
    fn what_is_read_is_bounded_and_begins_with_a_whole_line() {
        let (_directory, files, cart) = files(u64::MAX, 2);
        let line = format!("{}\n", "x".repeat(99));
        files.append(&cart, &line.repeat(100_000)).unwrap();
        let lines = files.tail(&cart, usize::MAX).unwrap();
        assert_eq!(lines.len() as u64, TAIL_BYTES_MAX / 100);
        assert!(lines.iter().all(|line| line.len() == 99));
    }
}
