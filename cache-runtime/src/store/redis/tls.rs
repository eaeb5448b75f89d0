//! What a connection is secured with (feature `tls`).
//!
//! rustls has no cryptography of its own: a process names a provider for all that is in it, or rustls takes the
//! one that was built in, and panics if those are two (`aws-lc-rs` by another dependency, `ring` by ours). So
//! before a connection is made, ours is named, unless the program has named one.

use crate::error::CacheError;
use crate::settings::TlsFiles;

const NEEDED: &str = concat!(
    "REDIS_URL asks for TLS, which this program was built without; write cache-aside = { version = \"",
    env!("CARGO_PKG_VERSION"),
    "\", features = [\"tls\"] } in its Cargo.toml"
);

/// Whether connections can be secured at all.
pub(super) fn can() -> Result<(), CacheError> {
    if cfg!(feature = "tls") { Ok(()) } else { Err(CacheError::Settings(NEEDED.to_owned())) }
}

/// Who names a CA believes that the connection is secured.
pub(super) fn unused(files: &TlsFiles) -> Result<(), CacheError> {
    let named = match files {
        TlsFiles { ca: Some(_), .. } => "REDIS_TLS_CA is",
        TlsFiles { identity: Some(_), .. } => "REDIS_TLS_CERT and REDIS_TLS_KEY are",
        TlsFiles { ca: None, identity: None } => return Ok(()),
    };
    Err(CacheError::Settings(format!(
        "{named} set, and the connection isn't secured; write rediss:// in the place of redis:// in REDIS_URL"
    )))
}

#[cfg(not(feature = "tls"))]
mod without {
    use deadpool_redis::cluster::ClusterClientBuilder;
    use redis::ConnectionInfo;

    use super::{CacheError, NEEDED, TlsFiles};

    /// There are none.
    #[derive(Clone)]
    pub(in crate::store::redis) enum Certificates {}

    impl Certificates {
        pub(in crate::store::redis) fn secure(&self, _: ClusterClientBuilder) -> ClusterClientBuilder {
            match *self {}
        }
    }

    pub(in crate::store::redis) fn prepare() {}

    pub(in crate::store::redis) fn secured(
        _: ConnectionInfo,
        _: &TlsFiles,
    ) -> Result<(ConnectionInfo, Certificates), CacheError> {
        Err(CacheError::Settings(NEEDED.to_owned()))
    }
}

#[cfg(feature = "tls")]
pub(super) use with_rustls::{Certificates, prepare, secured};
#[cfg(not(feature = "tls"))]
pub(super) use without::{Certificates, prepare, secured};

#[cfg(feature = "tls")]
mod with_rustls {
    use std::path::Path;
    use std::sync::Arc;

    use deadpool_redis::cluster::ClusterClientBuilder;
    use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};
    use rustls::RootCertStore;
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::sign::CertifiedKey;

    use super::{CacheError, TlsFiles};

    const CA: &str = "REDIS_TLS_CA";
    const CERT: &str = "REDIS_TLS_CERT";
    const KEY: &str = "REDIS_TLS_KEY";
    const CERTIFICATES: &str = "the path of a PEM file with certificates";
    const PRIVATE_KEY: &str = "the path of a PEM file with the private key of REDIS_TLS_CERT";

    /// What the files hold, for who makes addresses itself.
    #[derive(Clone)]
    pub(in crate::store::redis) struct Certificates(Arc<TlsCertificates>);

    impl Certificates {
        /// redis-rs' cluster client takes hosts and ports of what it is given, and no certificates.
        pub(in crate::store::redis) fn secure(&self, client: ClusterClientBuilder) -> ClusterClientBuilder {
            client.certs(TlsCertificates::clone(&self.0))
        }
    }

    /// Names a provider for this process, if nobody has.
    pub(in crate::store::redis) fn prepare() {
        if CryptoProvider::get_default().is_none() {
            // An error: somebody was quicker.
            let _ = ring::default_provider().install_default();
        }
    }

    /// The same place, secured with what these files hold.
    pub(in crate::store::redis) fn secured(
        info: ConnectionInfo,
        files: &TlsFiles,
    ) -> Result<(ConnectionInfo, Certificates), CacheError> {
        let root_cert = match &files.ca {
            None => None,
            Some(path) => {
                let pem = read(CA, path, CERTIFICATES)?;
                for certificate in certificates(CA, path, &pem)? {
                    RootCertStore::empty()
                        .add(certificate)
                        .map_err(|why| bad(CA, path, &format!("which holds no CA ({why})"), CERTIFICATES))?;
                }
                Some(pem)
            }
        };
        let client_tls = match &files.identity {
            None => None,
            Some((cert, key)) => {
                let client_cert = read(CERT, cert, CERTIFICATES)?;
                let chain = certificates(CERT, cert, &client_cert)?;
                let client_key = read(KEY, key, PRIVATE_KEY)?;
                // Not its reason, which may quote what stands there.
                let private = PrivateKeyDer::from_pem_slice(&client_key)
                    .map_err(|_| bad(KEY, key, "which holds no private key", PRIVATE_KEY))?;
                CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|why| {
                    bad(KEY, key, &format!("which doesn't fit REDIS_TLS_CERT ({why})"), PRIVATE_KEY)
                })?;
                Some(ClientTlsConfig { client_cert, client_key })
            }
        };
        let certificates = TlsCertificates { client_tls, root_cert };
        let client = Client::build_with_tls(info, certificates.clone())
            .map_err(|why| CacheError::Settings(format!("{CA}, {CERT} and {KEY} can't be used: {why}")))?;
        Ok((client.get_connection_info().clone(), Certificates(Arc::new(certificates))))
    }

    fn certificates(name: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CacheError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(bad(name, path, "which holds no certificate", CERTIFICATES)),
            Err(_) => Err(bad(name, path, "which is no PEM file", CERTIFICATES)),
        }
    }

    fn read(name: &str, path: &Path, form: &str) -> Result<Vec<u8>, CacheError> {
        std::fs::read(path).map_err(|error| bad(name, path, &format!("which can't be read: {error}"), form))
    }

    fn bad(name: &str, path: &Path, problem: &str, form: &str) -> CacheError {
        CacheError::Settings(format!("{name} is `{}`, {problem}; write {form}", path.display()))
    }
}
