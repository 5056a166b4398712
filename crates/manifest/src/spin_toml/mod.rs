//! `spin.toml` version 2.

use crate::diagnostic::Findings;
use crate::document::Document;
use crate::manifest::{Content, LoadOptions};
use std::path::Path;
pub(crate) fn is_spin(document: &Document<'_>) -> bool {
    document.has("spin_manifest_version")
}
pub(crate) fn content(_d: Document<'_>, _f: &Path, _o: &LoadOptions, findings: &mut Findings) -> Option<Content> {
    findings.error(None, "spin.toml is not read yet");
    None
}
