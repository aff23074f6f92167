//! Certificates made for a test: an authority, and what it signs.
use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use crate::settings::TlsSettings;

/// An authority and its directory of PEM files.
pub(crate) struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What is particular about a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) names: Vec<String>,
    /// The years from and to which it is valid.
    pub(crate) years: (i32, i32),
    pub(crate) purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Default for Made {
    /// What the processes of a cluster have: for both sides of a connection, on this machine.
    fn default() -> Self {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let names = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
        Self { names, years: (2020, 2100), purposes: vec![ClientAuth, ServerAuth] }
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        let name = directory.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    /// A certificate and its key, in files of this name.
    pub(crate) fn sign(&self, name: &str, made: &Made) -> TlsSettings {
        let mut params = CertificateParams::new(made.names.clone()).unwrap();
        params.not_before = date_time_ymd(made.years.0, 1, 1);
        params.not_after = date_time_ymd(made.years.1, 1, 1);
        params.extended_key_usages.clone_from(&made.purposes);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let settings = TlsSettings {
            ca: self.path("ca.pem"),
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            server_name: None,
        };
        fs::write(&settings.certificate, certificate.pem()).unwrap();
        fs::write(&settings.key, key.serialize_pem()).unwrap();
        settings
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
