//! Stand-in until `wire` lands.
use tonic::transport::{Endpoint, ServerTlsConfig};

use crate::error::StartError;
use crate::settings::TlsSettings;

pub(crate) fn server_tls(_: &TlsSettings) -> Result<ServerTlsConfig, StartError> {
    Ok(ServerTlsConfig::new())
}

pub(crate) fn endpoint(address: &str, _: Option<&TlsSettings>) -> Result<Endpoint, StartError> {
    Endpoint::from_shared(format!("http://{address}")).map(|it| it.tcp_nodelay(true)).map_err(
        |_| StartError::Listen {
            address: address.into(),
            source: std::io::ErrorKind::InvalidInput.into(),
        },
    )
}
