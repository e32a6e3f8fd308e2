//! A certificate authority for one server, and clients that trust it alone.

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

/// The file of the server's certificate.
pub(super) const CERTIFICATE: &str = "server.pem";
/// The file of its key.
pub(super) const KEY: &str = "server.key";

/// Writes a server's certificate (ECDSA, P-256) and key into a directory; how clients speak to it.
pub(super) fn make(directory: &Path) -> Result<Arc<ClientConfig>> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let server = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()])?.signed_by(&key, &issuer)?;
    for (file, content) in [(CERTIFICATE, server.pem()), (KEY, key.serialize_pem())] {
        let path = directory.join(file);
        fs::write(&path, content).with_context(|| path.display().to_string())?;
    }

    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    let mut clients = builder.with_root_certificates(roots).with_no_client_auth();
    // Each client stands for another machine: none has spoken to the server before.
    clients.resumption = Resumption::disabled();
    Ok(Arc::new(clients))
}
