//! The node's certificate: read, checked against its key, offered with HTTP/2 and HTTP/1.1 (ALPN).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::CertificateFiles;

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// `listen_tls` without `certificate`.
    #[error("there are TLS addresses to listen on, but no certificate is set")]
    Missing,
    /// A file that cannot be read, or holds no PEM block of the right kind.
    #[error("{}: {detail}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Certificate and key do not belong together, or use an unsupported algorithm.
    #[error("certificate and key cannot be used: {detail}")]
    Unusable {
        /// What rustls said.
        detail: String,
    },
}

/// The server side's settings from the files.
pub(crate) fn server_config(files: &CertificateFiles) -> Result<Arc<ServerConfig>, CertificateError> {
    let chain = certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad_file(&files.key, &error))?;
    let unusable = |error: rustls::Error| CertificateError::Unusable { detail: error.to_string() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// All certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| bad_file(path, &error))?.collect();
    let all = all.map_err(|error| bad_file(path, &error))?;
    match all.is_empty() {
        true => Err(CertificateError::BadFile { path: path.into(), detail: "no certificate in it".to_owned() }),
        false => Ok(all),
    }
}

fn bad_file(path: &Path, error: &rustls::pki_types::pem::Error) -> CertificateError {
    CertificateError::BadFile { path: path.into(), detail: error.to_string() }
}
