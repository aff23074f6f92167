//! How connections between the processes of a cluster are made: in the clear, or with TLS in
//! which both sides show a certificate of the cluster's own authority.
//!
//! Certificates are checked when a process starts, with the file and the reason in the error. What
//! the other side of a connection sees of a bad one is an alert, or a connection that ends.
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};

use crate::error::StartError;
use crate::settings::{SettingsError, TlsSettings};

/// How long a connection may take to be made, and a handshake after it.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which nothing is heard is asked so often whether it lives, …
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// … and given up if it does not answer for so long. TCP alone would wait for minutes.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Holds a record of usual size, so that none waits for a window's round trip.
pub(crate) const WINDOW_BYTES: u32 = 1 << 20;

/// What a voter shows, and asks of whoever calls it.
///
/// # Errors
///
/// [`StartError::Tls`]: a file cannot be read or used, the key is not the certificate's, or the
/// authority did not sign it, or not for a server, or not for now.
pub(crate) fn server_tls(settings: &TlsSettings) -> Result<ServerTlsConfig, StartError> {
    let files = Files::read(settings)?;
    files.check_as_server()?;
    Ok(ServerTlsConfig::new()
        .identity(files.identity())
        .client_ca_root(Certificate::from_pem(&files.ca_pem))
        .timeout(CONNECT_TIMEOUT))
}

/// Whom to connect to, at `host:port`, and how. Nothing is connected yet.
///
/// # Errors
///
/// [`StartError::Settings`] if the address is none; [`StartError::Tls`]: a file cannot be read or
/// used, the key is not the certificate's, or the authority did not sign it, or not for now.
pub(crate) fn endpoint(address: &str, tls: Option<&TlsSettings>) -> Result<Endpoint, StartError> {
    let wrong = |reason: String| {
        let reason = format!("{address:?} {reason}: expected host:port, such as 10.0.0.1:9010");
        StartError::Settings(SettingsError::Conflict { key: "quorum.voters", reason })
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("has no port".to_owned()))?;
    if host.is_empty() || host.contains('/') || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(wrong("is no address".to_owned()));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
    let endpoint = endpoint
        .map_err(|error| wrong(format!("is no address ({})", reason(&error))))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let Some(settings) = tls else { return Ok(endpoint) };
    let files = Files::read(settings)?;
    files.check_as_client()?;
    endpoint
        .tls_config(files.client_config())
        .map_err(|error| bad_file(&settings.certificate, reason(&error)))
}

/// An error and what led to it, in one line.
pub(crate) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut reason = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        // Many errors repeat the one below them.
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        next = error.source();
    }
    reason
}

/// What became of a connection, and where to look. Who refuses a certificate says so in an alert,
/// which a connection that ends may swallow.
pub(crate) fn explained(error: &(dyn Error + 'static), has_tls: bool) -> String {
    let text = reason(error);
    if was_never_made(error) {
        return text;
    }
    let hint = if has_tls {
        "if the connection ended in its handshake: does the other side speak TLS, and is the \
         certificate of quorum.tls signed by its authority?"
    } else {
        "if the connection ended at once: does the other side expect TLS? Then set quorum.tls here"
    };
    format!("{text} ({hint})")
}

/// Whether there was nobody to have a handshake with.
fn was_never_made(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let kinds = [ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut];
        if kind.is_some_and(|kind| kinds.contains(&kind)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The files of the settings, read.
struct Files<'a> {
    settings: &'a TlsSettings,
    ca_pem: Vec<u8>,
    certificate_pem: Vec<u8>,
    key_pem: Vec<u8>,
    roots: Arc<RootCertStore>,
    /// The own certificate, then those between it and the authority.
    chain: Vec<CertificateDer<'static>>,
}

impl<'a> Files<'a> {
    fn read(settings: &'a TlsSettings) -> Result<Self, StartError> {
        let TlsSettings { ca, certificate, key, .. } = settings;
        let (ca_pem, certificate_pem, key_pem) = (read(ca)?, read(certificate)?, read(key)?);
        let mut roots = RootCertStore::empty();
        for authority in certificates(ca, &ca_pem)? {
            let added = roots.add(authority);
            added.map_err(|error| {
                bad_file(ca, format!("not a certificate of an authority: {error}"))
            })?;
        }
        let chain = certificates(certificate, &certificate_pem)?;
        let roots = Arc::new(roots);
        let files = Self { settings, ca_pem, certificate_pem, key_pem, roots, chain };
        files.check_key()?;
        Ok(files)
    }

    fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate_pem, &self.key_pem)
    }

    fn client_config(&self) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca_pem))
            .identity(self.identity())
            .timeout(CONNECT_TIMEOUT);
        match &self.settings.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }

    /// Whether the key is the certificate's.
    fn check_key(&self) -> Result<(), StartError> {
        let TlsSettings { certificate, key, .. } = self.settings;
        let private = PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|error| bad_file(key, format!("no private key in it: {error}")))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad_file(key, error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), private);
        match config {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(_)) => Err(bad_file(
                key,
                format!("not the key of the certificate {}", certificate.display()),
            )),
            Err(rustls::Error::InvalidCertificate(error)) => Err(self.unusable(&error)),
            Err(error) => Err(bad_file(key, format!("the key cannot be used: {error}"))),
        }
    }

    /// Whether a voter would take the certificate.
    fn check_as_client(&self) -> Result<(), StartError> {
        let Some((own, between)) = self.chain.split_first() else { return Ok(()) };
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider)
            .build()
            .map_err(|error| bad_file(&self.settings.ca, error.to_string()))?;
        let verified = verifier.verify_client_cert(own, between, UnixTime::now());
        verified.map(drop).map_err(|error| self.refused(&error, "client"))
    }

    /// Whether whoever calls a voter would take the certificate. Its name is not looked at: by
    /// which one the voter is called is not known here.
    fn check_as_server(&self) -> Result<(), StartError> {
        let Some((own, between)) = self.chain.split_first() else { return Ok(()) };
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        ParsedCertificate::try_from(own)
            .and_then(|own| {
                let now = UnixTime::now();
                let roots = &self.roots;
                verify_server_cert_signed_by_trust_anchor(&own, roots, between, now, algorithms)
            })
            .map_err(|error| self.refused(&error, "server"))
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's list grows")]
    fn refused(&self, error: &rustls::Error, side: &str) -> StartError {
        match error {
            rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => {
                let reason = format!(
                    "not made out for a {side}: its extended key usage must have {side}Auth"
                );
                bad_file(&self.settings.certificate, reason)
            }
            rustls::Error::InvalidCertificate(error) => self.unusable(error),
            other => bad_file(&self.settings.certificate, other.to_string()),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the library's list grows")]
    fn unusable(&self, error: &CertificateError) -> StartError {
        let ca = self.settings.ca.display();
        let reason = match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate has expired: get a new one".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate is not valid yet: is the clock of this machine right?".to_owned()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("the certificate is not signed by the authority in {ca}")
            }
            other => format!("the certificate cannot be used: {other}"),
        };
        bad_file(&self.settings.certificate, reason)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| bad_file(path, format!("cannot be read: {error}")))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| bad_file(path, format!("not a PEM file: {error}")))?;
    if found.is_empty() {
        return Err(bad_file(
            path,
            "no certificate in it: expected -----BEGIN CERTIFICATE-----".into(),
        ));
    }
    Ok(found)
}

fn bad_file(path: &Path, reason: String) -> StartError {
    StartError::Tls { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests;
