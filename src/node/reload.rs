//! What changes while a node runs.

use super::Node;
use crate::api::Secrets;
use crate::operator::Reloaded;
use tokio::sync::watch;

impl Node {
    /// Reads the environment's files again, and takes over what can change while the node runs: all of it or, where it has
    /// faults, nothing. Only the certificate is taken or refused by itself, as it is when its files change.
    pub(super) fn reload(&self) -> Reloaded {
        let again = self.configuration.ok_or("this program has no configuration that could be read again")?;
        let fresh = again().map_err(|faults| format!("it has faults, everything stays as it is: {faults}"))?.reloadable;
        let Secrets { api, metrics } = self.secrets.borrow().clone();
        if (fresh.secrets.api.is_open() && !api.is_open())
            || (fresh.secrets.metrics.is_open() && !metrics.is_open())
            || self.sign_in.borrow().would_open(&fresh.sign_in)
        {
            return Err("a token, a key or PRIVATE_CHANNELS was set and is gone, which would open what it guards to everybody; \
                        a file that is being written may be empty for a moment, else restart without it"
                .to_owned());
        }
        if fresh.webhook_secret.is_none() && self.webhook_secret.borrow().is_some() {
            return Err("WEBHOOK_SECRET is gone, so requests would not be signed any more".to_owned());
        }
        if let Some(log) = &self.log {
            log.set(&fresh.log).map_err(|error| error.to_string())?;
        }
        let webhook = take_over(&self.webhook_secret, fresh.webhook_secret);
        let secrets = take_over(&self.secrets, fresh.secrets);
        let sign_in = take_over(&self.sign_in, fresh.sign_in);
        let origins = take_over(&self.allowed_origins, fresh.allowed_origins);
        let cors = take_over(&self.cors_origins, fresh.cors_origins);
        let changed = secrets || sign_in || origins || cors || webhook;
        tracing::info!(changed, "configuration read again");
        match (&self.certificate, fresh.tls) {
            (Some(certificate), Some(sources)) => certificate.reload(sources).map_err(|why| {
                format!("all but the tls certificate is taken over, the one before stays in use: {why}")
            }),
            (None, None) => Ok(()),
            (Some(_), None) | (None, Some(_)) => {
                Err("all is taken over but whether there is TLS, which takes a restart".to_owned())
            }
        }
    }
}

/// Whether the value is another one now.
fn take_over<T: PartialEq>(current: &watch::Sender<T>, fresh: T) -> bool {
    current.send_if_modified(|current| {
        let differs = *current != fresh;
        *current = fresh;
        differs
    })
}
