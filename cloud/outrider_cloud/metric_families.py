"""Prometheus' metrics made of plain figures: one prefix, labels that all share, a stated meaning.

Knows nothing of where figures come from.
"""

from collections.abc import Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from outrider_cloud.histogram import Histogram


class MetricFamilies:
    """Makes the metrics of one process.

    Args:
        prefix: of every name.
        meanings: what each name stands for; one that is not in there cannot be made.
        labels: of every sample.
    """

    def __init__(self, prefix: str, meanings: Mapping[str, str], labels: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._meanings = meanings
        self._names = tuple(labels)
        self._values = tuple(labels.values())

    def gauge(self, name: str, value: float) -> Metric:
        """A figure that rises and falls."""
        metric = GaugeMetricFamily(self._prefix + name, self._meanings[name], labels=self._names)
        metric.add_metric(self._values, value)
        return metric

    def gauges(self, name: str, label: str, values: Mapping[str, float]) -> Metric:
        """Such a figure for each value of one more label."""
        names = (*self._names, label)
        metric = GaugeMetricFamily(self._prefix + name, self._meanings[name], labels=names)
        for key, value in values.items():
            metric.add_metric((*self._values, key), value)
        return metric

    def counter(self, name: str, value: float) -> Metric:
        """A figure that only grows; its sample's name ends in `_total`."""
        metric = CounterMetricFamily(self._prefix + name, self._meanings[name], labels=self._names)
        metric.add_metric(self._values, value)
        return metric

    def counters(self, name: str, label: str, values: Mapping[str, float]) -> Metric:
        """Such a figure for each value of one more label."""
        names = (*self._names, label)
        metric = CounterMetricFamily(self._prefix + name, self._meanings[name], labels=names)
        for key, value in values.items():
            metric.add_metric((*self._values, key), value)
        return metric

    def histogram(self, name: str, histogram: Histogram) -> Metric:
        """How often which values came."""
        meaning = self._meanings[name]
        metric = HistogramMetricFamily(self._prefix + name, meaning, labels=self._names)
        bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
        buckets = list(zip(bounds, histogram.cumulative(), strict=True))
        metric.add_metric(self._values, buckets, histogram.sum)
        return metric
