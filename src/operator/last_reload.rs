//! What became of the last reload, for `/metrics`.

use super::Reloaded;
use crate::metrics::Register;
use prometheus::{IntGauge, Registry};

/// A gauge: 1 until a reload has a fault.
pub struct LastReload(IntGauge);

impl LastReload {
    /// Registers it; an error where another one is registered there.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let successful = registry.gauge(
            "carillon_config_last_reload_successful",
            "1 where the last reload was done, or there was none; 0 where it had a fault.",
        )?;
        successful.set(1);
        Ok(Self(successful))
    }

    /// There was another one.
    pub fn was(&self, reloaded: &Reloaded) {
        self.0.set(i64::from(reloaded.is_ok()));
    }
}
