//! Numbers from the text files of `/proc`.

/// The number behind a name at the beginning of a line, as in `Threads: 7` or `VmHWM: 12 kB`; `None` if it is not there.
pub(crate) fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_behind_its_name() {
        let status = "Name:\tx\nThreads:\t7\nVmHWM:\t   12 kB\n";
        assert_eq!(number(status, "Threads:"), Some(7));
        assert_eq!(number(status, "VmHWM:"), Some(12));
        assert_eq!(number(status, "VmRSS:"), None);
        assert_eq!(number(status, "Name:"), None);
    }
}
