//! `carillon health`: where the node of this machine has its health pages, and what they say.

use super::api::Api;
use super::failure::Failure;
use super::http::shown;
use super::output::Output;
use crate::cli::{DEFAULT_API, Format, Health};
use crate::config::Config;
use hyper::StatusCode;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use url::Url;

/// Prints what the node says of itself; anything but a status of 2xx is a refusal.
pub(super) async fn health(api: &Api, health: &Health, output: &mut Output) -> Result<(), Failure> {
    let own;
    let (api, base) = match &health.options.api {
        named if named.as_str() != DEFAULT_API => (api, named.clone()),
        _ => {
            let config = Config::from_env().map_err(|faults| {
                Failure::Usage(format!("the configuration of this machine's node has faults:\n{faults}"))
            })?;
            own = Api::of_this_machine(&health.options)?;
            (&own, of_this_machine(&config)?)
        }
    };
    let url = base
        .join(if health.live { "livez" } else { "readyz" })
        .map_err(|error| Failure::Usage(format!("{}: {error}", shown(&base))))?;
    let (status, said) = api.page(&url).await?;
    let text = match said {
        Some(text) if status.is_success() => text,
        Some(text) if status == StatusCode::SERVICE_UNAVAILABLE => return Err(Failure::refused(text)),
        _ if status.is_server_error() => {
            return Err(Failure::refused(format!("{} answered {status}", shown(&url))));
        }
        _ => return Err(Failure::stranger(&url, status, said.as_deref())),
    };
    match output.format {
        Format::Lines => output.line(text.as_bytes())?,
        Format::Json => output.json(&json!({"status": true, "message": text}))?,
    }
    Ok(())
}

/// The health pages of a node with this configuration, asked from its own machine.
fn of_this_machine(config: &Config) -> Result<Url, Failure> {
    let mut url = local_url(config.http_host, config.metrics_port.unwrap_or(config.http_port), "--api")?;
    if config.metrics_port.is_none() {
        speaks_plainly(config, "METRICS_PORT")?;
    }
    if config.http_tls && config.metrics_port.is_none() {
        url.set_scheme("https").map_err(|()| Failure::Usage(format!("{url}: can't be asked over tls")))?;
    }
    Ok(url)
}

/// Whether this machine's commands can speak to the HTTP port of a node with this configuration; `instead` names the variable
/// of a port where they always can. Without the header that it waits for, it would hang up without a word.
pub(super) fn speaks_plainly(config: &Config, instead: &str) -> Result<(), Failure> {
    let peers = &config.peers;
    let from = reached_at(config.http_host);
    if peers.proxy_protocol && peers.trusted.contains(from) {
        return Err(Failure::Usage(format!(
            "PROXY_PROTOCOL is set and {from} is in TRUSTED_PROXIES, so the node waits for that protocol's header from this \
             machine too: trust the proxy's address alone, or set {instead}"
        )));
    }
    Ok(())
}

/// Where this machine reaches a port that listens on this address, and so where from.
fn reached_at(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(any) if any.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(any) if any.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        one => one.to_canonical(),
    }
}

/// The URL of a port of this machine's node, by the address that it listens on; `option` names a port that isn't known.
pub(super) fn local_url(host: IpAddr, port: u16, option: &str) -> Result<Url, Failure> {
    if port == 0 {
        return Err(Failure::Usage(format!("the node's port is 0, so the system chose one: name it with {option}")));
    }
    let url = format!("http://{}/", SocketAddr::new(reached_at(host), port));
    Url::parse(&url).map_err(|error| Failure::Usage(format!("{url}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_this_machine_is_asked_where_its_variables_say() {
        let pair = [("TLS_CERT", "cert.pem"), ("TLS_KEY", "key.pem")];
        let https = [pair[0], pair[1], ("HTTP_TLS", "true")];
        let cases: [(&[(&str, &str)], &str); 12] = [
            (&[], DEFAULT_API),
            (&[("HTTP_PORT", "9000")], "http://127.0.0.1:9000/"),
            (&[("HTTP_HOST", "0.0.0.0")], DEFAULT_API),
            (&[("HTTP_HOST", "::")], "http://[::1]:8080/"),
            (&[("HTTP_HOST", "10.1.2.3")], "http://10.1.2.3:8080/"),
            (&[("HTTP_TOKEN", "secret")], DEFAULT_API),
            (&[("HTTP_HOST", "10.1.2.3"), ("HTTP_PORT", "0"), ("METRICS_PORT", "9001")], "http://10.1.2.3:9001/"),
            (&[("HTTP_HOST", "10.1.2.3"), ("HTTP_PORT", "9000"), ("PORT", "9000")], "http://10.1.2.3:9000/"),
            (&pair, DEFAULT_API),
            (&https, "https://127.0.0.1:8080/"),
            (&[pair[0], pair[1], ("WS_PORT", "8080")], "https://127.0.0.1:8080/"),
            (&[pair[0], pair[1], https[2], ("METRICS_PORT", "9001")], "http://127.0.0.1:9001/"),
        ];
        let config = |variables: &[(&str, &str)]| {
            Config::from_variables(variables.iter().map(|&(name, value)| (name.into(), value.into()))).unwrap()
        };
        for (variables, asked) in cases {
            assert_eq!(of_this_machine(&config(variables)).unwrap().as_str(), asked, "{variables:?}");
        }
        assert!(matches!(of_this_machine(&config(&[("HTTP_PORT", "0")])), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_node_that_waits_for_the_header_of_a_proxy_is_not_asked_without_it() {
        let with = ("PROXY_PROTOCOL", "true");
        let cases: [(&[(&str, &str)], bool); 5] = [
            (&[with], false),
            (&[with, ("HTTP_HOST", "::ffff:10.1.2.3"), ("TRUSTED_PROXIES", "10.0.0.0/8")], false),
            (&[with, ("METRICS_PORT", "9001")], true),
            (&[with, ("TRUSTED_PROXIES", "10.0.0.1")], true),
            (&[], true),
        ];
        for (variables, asked) in cases {
            let config =
                Config::from_variables(variables.iter().map(|&(name, value)| (name.into(), value.into()))).unwrap();
            assert_eq!(of_this_machine(&config).is_ok(), asked, "{variables:?}");
        }
    }
}
