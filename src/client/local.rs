//! What can be said about a component's file before it is sent to a node.
//!
//! Only the first bytes are looked at; whether it is a good component is the node's to say, in the same words.

use std::path::Path;

use forerun_manifest::SourceError;

use super::error::ClientError;

/// The first bytes of every WebAssembly file.
const MAGIC: &[u8] = b"\0asm";
/// The next two of a core module; a component has another version and layer.
/// <https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>
const CORE_LAYER: &[u8] = &[0, 0];
/// As `LoadError::NotWasm` of the driver.
const NOT_WASM: &str = "this is not a WebAssembly file: it does not start with the bytes `\\0asm`";
/// As `LoadError::CoreModule` of the driver.
const CORE_MODULE: &str = "this is a core WebAssembly module, not a component; build for wasm32-wasip2 or wrap it with `wasm-tools component new`";

/// Holds what was read from `path` against what every component starts with.
pub(super) fn component(path: &Path, read: Result<Vec<u8>, SourceError>) -> Result<Vec<u8>, ClientError> {
    let bytes = read.map_err(ClientError::Component)?;
    let not = |why| Err(ClientError::NotAComponent { path: path.to_owned(), why });
    if !bytes.starts_with(MAGIC) {
        return not(NOT_WASM);
    }
    if bytes.get(6..8) == Some(CORE_LAYER) {
        return not(CORE_MODULE);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_no_component() {
        let check = |bytes: &[u8]| component(Path::new("a.wasm"), Ok(bytes.to_vec())).map_err(|e| e.to_string());
        assert!(check(b"\x7fELF").unwrap_err().contains("not a WebAssembly file"));
        assert!(check(b"\0asm\x01\0\0\0").unwrap_err().contains("wasm-tools component new"));
        assert!(check(b"\0asm\x0d\0\x01\0").is_ok());
        assert!(check(b"\0asm").is_ok(), "cut off: the node says where");
    }
}
