//! What changes while a node runs.

use super::Node;
use crate::api::Secrets;
use crate::config::{Config, Faults};
use crate::operator::Reloaded;
use tokio::sync::watch;

impl Node {
    /// Takes over what can change while the node runs, of a configuration that was read again: all of it or, where it has
    /// faults, nothing. Only the certificate is taken or refused by itself, as it is when its files change.
    pub(super) fn reload(&self, read: Option<Result<Config, Faults>>) -> Reloaded {
        let reloaded = self.take_over(read);
        self.last_reload.was(&reloaded);
        if let Err(why) = &reloaded {
            tracing::error!("configuration not reloaded: {why}");
        }
        reloaded
    }

    fn take_over(&self, read: Option<Result<Config, Faults>>) -> Reloaded {
        let read = read.ok_or("this program has no configuration that could be read again")?;
        let read = read.map_err(|faults| format!("it has faults, everything stays as it is: {faults}"))?;
        let Config { reloadable: fresh, fixed, .. } = read;
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
        let webhook = exchange(&self.webhook_secret, fresh.webhook_secret);
        let secrets = exchange(&self.secrets, fresh.secrets);
        let sign_in = exchange(&self.sign_in, fresh.sign_in);
        let origins = exchange(&self.allowed_origins, fresh.allowed_origins);
        let cors = exchange(&self.cors_origins, fresh.cors_origins);
        let changed = secrets || sign_in || origins || cors || webhook;
        tracing::info!(changed, "configuration read again");
        match (&self.certificate, fresh.tls) {
            (Some(certificate), Some(sources)) => certificate.reload(sources).map_err(|why| {
                format!("all but the tls certificate is taken over, the one before stays in use: {why}")
            })?,
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                return Err("all is taken over but whether there is TLS, which takes a restart".to_owned());
            }
        }
        match &*self.config.fixed.changes(&fixed) {
            [] => Ok(()),
            changes => Err(format!("all is taken over but {}, which takes a restart", changes.join(", "))),
        }
    }
}

/// Whether the value is another one now.
fn exchange<T: PartialEq>(current: &watch::Sender<T>, fresh: T) -> bool {
    current.send_if_modified(|current| {
        let differs = *current != fresh;
        *current = fresh;
        differs
    })
}
