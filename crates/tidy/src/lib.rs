//! Holds the repository to what ARCHITECTURE.md and CONTRIBUTING.md say.
//!
//! Everything is in `tests/tidy`: `edges` compares the crates' dependencies with the tables of ARCHITECTURE.md, `files`
//! looks at every file as text. Nothing is exported, and nothing here compiles, starts or depends on another crate of
//! the workspace, so that it answers in a second.
