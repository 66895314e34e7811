//! The daemon's figures for Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::protocol::Stats;

/// Writes them in the OpenMetrics format.
#[must_use]
pub fn write(stats: &Stats) -> String {
    let mut registry = Registry::with_prefix("pidlist");
    registry.register_collector(Box::new(Figures(stats.clone())));
    let mut page = String::new();
    // A string takes all that is written.
    let _ = text::encode(&mut page, &registry);
    page
}

#[derive(Debug)]
struct Figures(Stats);

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Self(stats) = self;
        let counters = &stats.counters;
        let mut page = Page(encoder);
        page.gauges(
            "processes",
            "Processes kept",
            "state",
            [("alive", stats.alive), ("exited", stats.exited)],
        )?;
        page.gauge(
            "cache",
            "Memory for processes, an estimate from above",
            &Unit::Bytes,
            stats.bytes as f64,
        )?;
        page.counters(
            "events",
            "Events told by the kernel",
            "kind",
            [
                ("fork", counters.forks),
                ("exec", counters.execs),
                ("exit", counters.exits),
            ],
        )?;
        page.counters(
            "events_lost",
            "Events that the kernel had no room for",
            "kind",
            [
                ("fork", counters.forks_lost),
                ("exec", counters.execs_lost),
                ("exit", counters.exits_lost),
            ],
        )?;
        page.counter(
            "events_stale",
            "Events that came after their process was dead and gone",
            counters.stale,
        )?;
        page.counter("walks", "Walks over all tasks", counters.walks)?;
        // Gauges: one is taken off again when its event was merely late.
        page.gauges(
            "corrections",
            "Processes corrected by a walk since the start",
            "kind",
            [
                ("added", counters.added),
                ("ended", counters.ended),
                ("revived", counters.revived),
            ],
        )?;
        page.plain_gauge(
            "repaired",
            "Processes corrected by a walk since the first one",
            stats.repaired,
        )?;
        page.counters(
            "evicted",
            "Exited processes that were let go",
            "reason",
            [
                ("expired", counters.expired),
                ("number", counters.evicted_by_number),
                ("bytes", counters.evicted_by_bytes),
            ],
        )?;
        page.counter(
            "audits_failed",
            "Audits that found something wrong",
            counters.audits_failed,
        )?;
        page.counter(
            "vanished",
            "Processes that went while /proc was read",
            stats.vanished,
        )?;
        page.counter(
            "hidden",
            "Processes that /proc did not let the daemon read",
            stats.hidden,
        )?;
        page.seconds(
            "walk_duration",
            "How long the last walk took",
            stats.walk_ns,
        )?;
        page.seconds(
            "apply_duration",
            "How long the last batch of events took to apply",
            stats.apply_ns,
        )?;
        page.plain_gauge("clients", "Clients connected", stats.clients)?;
        page.counter(
            "clients_refused",
            "Clients turned away or let go",
            stats.clients_refused,
        )?;
        page.plain_gauge(
            "subscribers",
            "Clients that are told of changes",
            stats.subscribers,
        )?;
        page.counter(
            "subscribers_lost",
            "Changes that subscribers missed",
            stats.subscribers_lost,
        )?;
        page.gauges(
            "source",
            "Where processes are learned of",
            "source",
            [
                ("bpf", u64::from(stats.source == "bpf")),
                ("proc", u64::from(stats.source == "proc")),
            ],
        )
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn plain_gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: &Unit, value: f64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, Some(unit), MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn seconds(&mut self, name: &str, help: &str, ns: u64) -> fmt::Result {
        self.gauge(name, help, &Unit::Seconds, ns as f64 / 1e9)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (kind, value) in values {
            let labels = [(label, kind)];
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&'static str, u64); N],
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (kind, value) in values {
            let labels = [(label, kind)];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
