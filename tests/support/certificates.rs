//! A certificate authority of the test's own, and what it has signed.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Files: `ca.pem` of the authority, `server.pem` and `server.key` of a server on this machine.
pub struct Certificates {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// A new authority and a first pair.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.path().join("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
        let certificates = Self { dir, issuer: Issuer::new(authority, authority_key) };
        certificates.renew("server", 4096);
        certificates
    }

    /// Writes `NAME.pem` and `NAME.key`: another pair, which expires with that year.
    pub fn renew(&self, name: &str, year: i32) {
        let key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        server.not_after = date_time_ymd(year, 1, 1);
        self.write(&format!("{name}.pem"), &server.signed_by(&key, &self.issuer).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Writes a file of this content.
    pub fn write(&self, name: &str, content: &str) {
        // As those who renew certificates do: never half written.
        let new = self.dir.path().join(format!("{name}.new"));
        fs::write(&new, content).unwrap();
        fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    /// A file's content.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> String {
        let path: &Path = self.dir.path();
        path.join(name).to_str().unwrap().to_owned()
    }

    /// A client that trusts this authority alone and speaks these versions.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}
