//! The parts of the sandbox, by name, and which of them a worker stands behind.

use std::fmt;

/// One part of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    /// Killed when the supervisor dies.
    ParentDeath,
    /// Lowest scheduling class, where the settings ask for it.
    Scheduling,
    /// First to go when the machine runs out of memory.
    OutOfMemoryScore,
    /// No capability left, were the server root.
    Capabilities,
    /// Nothing it could execute would raise its rights.
    NoNewPrivileges,
    /// No core dump, so that no piece of a component lands on disk, and no debugger.
    NotDumpable,
    /// No other thread ran that later guards would not reach.
    SingleThread,
    /// No file system: landlock.
    FileSystem,
    /// No TCP, no abstract socket, no signal to other processes: landlock.
    Isolation,
    /// Memory, processor time, file size, descriptors, core.
    ResourceLimits,
    /// The list of system calls: seccomp.
    SystemCalls,
}

impl Guard {
    /// All of them, in the order in which they are put up.
    pub const ALL: [Self; 11] = [
        Self::ParentDeath,
        Self::Scheduling,
        Self::OutOfMemoryScore,
        Self::SingleThread,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::NotDumpable,
        Self::FileSystem,
        Self::Isolation,
        Self::ResourceLimits,
        Self::SystemCalls,
    ];

    /// As it is written in progress lines and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ParentDeath => "parent_death",
            Self::Scheduling => "scheduling",
            Self::OutOfMemoryScore => "oom_score",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no_new_privileges",
            Self::NotDumpable => "not_dumpable",
            Self::SingleThread => "single_thread",
            Self::FileSystem => "file_system",
            Self::Isolation => "isolation",
            Self::ResourceLimits => "resource_limits",
            Self::SystemCalls => "system_calls",
        }
    }

    /// Its place in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        Self::ALL.iter().position(|guard| *guard == self).expect("ALL holds every guard")
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guard| guard.name() == name)
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a worker said of its sandbox before it looked at its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxReport {
    /// It did not come to say anything.
    Unknown,
    /// Every guard is up.
    Complete,
    /// All but these are up; never empty.
    Missing(Vec<Guard>),
}

/// How the report begins in the first progress line.
const PREFIX: &str = "sandbox ";

impl SandboxReport {
    pub(crate) fn of(missing: Vec<Guard>) -> Self {
        if missing.is_empty() { Self::Complete } else { Self::Missing(missing) }
    }

    /// The guards that are not up, as far as known.
    pub fn missing(&self) -> &[Guard] {
        match self {
            Self::Unknown | Self::Complete => &[],
            Self::Missing(guards) => guards,
        }
    }

    /// Text of the first progress line.
    pub(crate) fn render(&self) -> String {
        match self {
            Self::Unknown => format!("{PREFIX}unknown"),
            Self::Complete => format!("{PREFIX}complete"),
            Self::Missing(guards) => {
                let names: Vec<_> = guards.iter().map(|guard| guard.name()).collect();
                format!("{PREFIX}missing {}", names.join(","))
            }
        }
    }

    /// Reads what [`Self::render`] wrote. The line comes from a process that is not trusted: what is
    /// no report, is none; a name that is no guard is left out.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        if rest == "complete" {
            return Some(Self::Complete);
        }
        let names = rest.strip_prefix("missing ")?;
        let mut guards: Vec<_> = names.split(',').filter_map(Guard::named).collect();
        guards.sort_unstable();
        guards.dedup();
        if guards.is_empty() { None } else { Some(Self::Missing(guards)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_it_was_written() {
        for report in [
            SandboxReport::Complete,
            SandboxReport::Missing(vec![Guard::FileSystem]),
            SandboxReport::Missing(vec![Guard::ParentDeath, Guard::SystemCalls]),
        ] {
            assert_eq!(SandboxReport::read(&report.render()), Some(report));
        }
    }

    #[test]
    fn other_lines_are_no_report() {
        for text in ["sandbox", "sandbox missing ", "sandbox missing nonsense", "compile missing file_system"] {
            assert_eq!(SandboxReport::read(text), None, "{text}");
        }
    }
}
