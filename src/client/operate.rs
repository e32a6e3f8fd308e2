//! `carillon reload`, `stop`, `status` and `say`: what an operator tells a node, over its management port or its HTTP port,
//! which both take it as HTTP.

use super::api::Api;
use super::failure::Failure;
use super::health::{local_url, speaks_plainly};
use super::http::shown;
use super::output::Output;
use crate::cli::{DEFAULT_API, Format, Told};
use crate::config::Config;
use crate::operator::{Operation, Phrase};
use hyper::StatusCode;
use serde_json::json;
use std::net::SocketAddr;
use url::Url;

/// Tells a node and prints what it answers.
pub(super) async fn operate(operation: Operation, told: &Told, output: &mut Output) -> Result<(), Failure> {
    let language = told.language();
    let fail = |phrase: Phrase, because: Option<String>, code: u8| Failure::Operator {
        said: phrase.in_language(language),
        because,
        code,
    };
    let text = told.text.as_deref().unwrap_or_default();
    if operation == Operation::Say && text.is_empty() {
        return Err(fail(Phrase::NoText, None, 2));
    }
    let (base, api) = whom(told)?;
    let url = base
        .join(&format!("admin/{}", operation.as_str()))
        .map_err(|error| Failure::Usage(format!("{}: {error}", shown(&base))))?;
    let body = match operation {
        Operation::Say => json!({"lang": language.as_str(), "say": text}),
        Operation::Reload | Operation::Stop | Operation::Status => json!({"lang": language.as_str()}),
    };
    let (status, said) = api.post(&url, &body).await.map_err(|failure| match failure {
        Failure::Unreachable { message, .. } => fail(Phrase::Unreachable, Some(message), 3),
        other => other,
    })?;
    match said {
        Some(said) if status.is_success() => match output.format {
            Format::Lines => output.line(said.trim_end().as_bytes())?,
            Format::Json => output.json(&json!({"status": true, "message": said.trim_end()}))?,
        },
        _ if status == StatusCode::UNAUTHORIZED => {
            let because = "the node wants its HTTP_TOKEN (--token-file, CARILLON_TOKEN_FILE); one without a token hears only \
                           programs of its own machine, over 127.0.0.1 or ::1";
            return Err(fail(Phrase::Denied, Some(because.to_owned()), 1));
        }
        Some(said) if status != StatusCode::UPGRADE_REQUIRED => {
            return Err(Failure::Operator { said: said.trim_end().to_owned(), because: None, code: 1 });
        }
        said => return Err(Failure::stranger(&url, status, said.as_deref().map(str::trim_end))),
    }
    Ok(())
}

/// Where the node is that is told, and its API with a token for it.
fn whom(told: &Told) -> Result<(Url, Api), Failure> {
    let Told { host, port, options, .. } = told;
    let named = options.api.as_str() != DEFAULT_API;
    let mut api = Api::new(options)?;
    // Whoever names a port needs nothing of the configuration, which may be what is broken.
    let mut url = if named || port.is_some() {
        options.api.clone()
    } else {
        let config = Config::from_env().map_err(|faults| {
            Failure::Usage(format!(
                "the configuration of this machine's node has faults (-h and -p name a node without it):\n{faults}"
            ))
        })?;
        // Only the node that is found by these variables has their token and their certificate.
        if host.is_none() {
            if config.manager.is_none() {
                speaks_plainly(&config, "MANAGER_PORT")?;
            }
            if let Some(token) = config.reloadable.secrets.api.first() {
                api.authorize_unless_told(token)?;
            }
            if is_https(&config)
                && let Some(sources) = &config.reloadable.tls
            {
                let certificate = sources.own_certificate().map_err(|error| Failure::Usage(error.to_string()))?;
                api.trust(certificate, options)?;
            }
        }
        of_this_machine(&config)?
    };
    if let Some(host) = host {
        url.set_host(Some(host)).map_err(|error| Failure::Usage(format!("host {host}: {error}")))?;
    }
    if port.is_some() {
        url.set_port(*port).map_err(|()| Failure::Usage(format!("{} can't have a port", shown(&url))))?;
    }
    Ok((url, api))
}

/// Where a node with this configuration is told, from its own machine.
fn of_this_machine(config: &Config) -> Result<Url, Failure> {
    let address = config.manager.unwrap_or_else(|| SocketAddr::new(config.http_host, config.http_port));
    let mut url = local_url(address.ip(), address.port(), "-p")?;
    if is_https(config) {
        url.set_scheme("https").map_err(|()| Failure::Usage(format!("{url}: can't be asked over tls")))?;
    }
    Ok(url)
}

/// Whether the port where a node with this configuration is told speaks TLS; the management port never does.
fn is_https(config: &Config) -> bool {
    config.http_tls && config.manager.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_this_machine_is_told_on_its_management_port_or_its_http_port() {
        let tls = [("TLS_CERT", "cert.pem"), ("TLS_KEY", "key.pem"), ("HTTP_TLS", "true")];
        let managed = [tls[0], tls[1], tls[2], ("MANAGER_PORT", "9501")];
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&tls, "https://127.0.0.1:8080/"),
            (&managed, "http://127.0.0.1:9501/"),
            (&[], DEFAULT_API),
            (&[("HTTP_HOST", "0.0.0.0"), ("HTTP_PORT", "9000")], "http://127.0.0.1:9000/"),
            (&[("HTTP_PORT", "9000"), ("MANAGER_PORT", "9501")], "http://127.0.0.1:9501/"),
            (&[("MANAGER_HOST", "10.1.2.3"), ("MANAGER_PORT", "9501")], "http://10.1.2.3:9501/"),
        ];
        for (variables, asked) in cases {
            let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
            let config = Config::from_variables(variables).unwrap();
            assert_eq!(of_this_machine(&config).unwrap().as_str(), asked, "{config:?}");
        }
    }
}
