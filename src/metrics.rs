//! Metrics, made and put into a registry in one step.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, Result,
};

/// A registry in which a part of the node makes what it counts. An error, of any of them: there is one of this name already.
pub(crate) trait Register {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter>;

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge>;

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram>;

    /// Counters that labels tell apart. Those that are to show zeros from the start have to be touched once.
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec>;

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec>;

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec>;
}

impl Register for Registry {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        register(self, IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        register(self, IntGauge::new(name, help)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        register(self, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        register(self, IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        register(self, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec> {
        register(self, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
