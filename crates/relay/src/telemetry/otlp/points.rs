//! Samples of the exposition as metrics of OTLP.
//!
//! Names stay as they are in `/metrics`, so that alerts and dashboards hold wherever the metrics come by.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

use super::exposition::{Family, Label, Number, Part, Sample};
use crate::telemetry::table::{Kind, METRICS};

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// What a point tells of, in nanoseconds of Unix time.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The start of the process, when all counted from 0.
    pub start: u64,
    pub end: u64,
}

/// The metric that `family` is; `None` while it has no sample.
pub fn metric(family: Family<'_>, span: Span) -> Option<Metric> {
    let Family {
        name,
        kind,
        samples,
    } = family;
    if samples.is_empty() {
        return None;
    }
    let (name, data) = match kind {
        Kind::Counter => (format!("{name}_total"), sum(samples, span)),
        Kind::Gauge => (name.to_owned(), gauge(samples, span)),
        Kind::Histogram => (name.to_owned(), histogram(samples, span)),
    };
    let described = METRICS.iter().find(|metric| metric.name == name);
    Some(Metric {
        description: described.map_or("", |metric| metric.meaning).to_owned(),
        unit: described.map(unit).unwrap_or_default(),
        name,
        data: Some(data),
        metadata: Vec::new(),
    })
}

/// As UCUM has it. None for what is a mere number: `1` would make some collectors append `_ratio` to the name.
fn unit(metric: &crate::telemetry::Metric) -> String {
    match metric.unit {
        "seconds" => "s".to_owned(),
        "bytes" => "By".to_owned(),
        counted if counted.chars().all(char::is_alphabetic) => format!("{{{counted}}}"),
        _ => String::new(),
    }
}

fn sum(samples: Vec<Sample<'_>>, span: Span) -> Data {
    Data::Sum(Sum {
        data_points: numbers(samples, span),
        aggregation_temporality: CUMULATIVE,
        is_monotonic: true,
    })
}

fn gauge(samples: Vec<Sample<'_>>, span: Span) -> Data {
    let data_points = numbers(samples, span);
    Data::Gauge(Gauge { data_points })
}

fn numbers(samples: Vec<Sample<'_>>, span: Span) -> Vec<NumberDataPoint> {
    let points = samples.into_iter().map(|sample| NumberDataPoint {
        attributes: attributes(sample.labels),
        start_time_unix_nano: span.start,
        time_unix_nano: span.end,
        value: Some(match sample.number {
            Number::Int(number) => Value::AsInt(number),
            Number::Float(number) => Value::AsDouble(number),
        }),
        ..NumberDataPoint::default()
    });
    points.collect()
}

fn histogram(samples: Vec<Sample<'_>>, span: Span) -> Data {
    let mut points: BTreeMap<Vec<Label<'_>>, HistogramDataPoint> = BTreeMap::new();
    for sample in samples {
        let point = points.entry(sample.labels).or_default();
        match sample.part {
            // Not a histogram's.
            Part::Value => {}
            Part::Sum => point.sum = Some(sample.number.float()),
            Part::Count => point.count = sample.number.count(),
            Part::UpTo(bound) => add_bucket(point, bound, sample.number.count()),
        }
    }
    let points = points
        .into_iter()
        .map(|(labels, point)| HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: span.start,
            time_unix_nano: span.end,
            ..point
        });
    Data::Histogram(Histogram {
        data_points: points.collect(),
        aggregation_temporality: CUMULATIVE,
    })
}

/// A bucket counts what is in none before it, and the last one has no bound.
fn add_bucket(point: &mut HistogramDataPoint, bound: f64, up_to: u64) {
    let before: u64 = point.bucket_counts.iter().sum();
    point.bucket_counts.push(up_to.saturating_sub(before));
    if bound.is_finite() {
        point.explicit_bounds.push(bound);
    }
}

fn attributes(labels: Vec<Label<'_>>) -> Vec<KeyValue> {
    let attributes = labels.into_iter().map(|(name, value)| KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value)),
        }),
        ..KeyValue::default()
    });
    attributes.collect()
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Int(number) => number.try_into().unwrap_or_default(),
            Self::Float(number) => number as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::exposition::parse;
    use super::*;
    use crate::telemetry::Metrics;

    const SPAN: Span = Span { start: 1, end: 2 };

    fn only(text: &str) -> Metric {
        let family = parse(text).unwrap().remove(0);
        metric(family, SPAN).unwrap()
    }

    #[test]
    fn a_counter_is_a_cumulative_sum_since_the_start() {
        let metric = only(
            "# TYPE outboxd_sessions counter\noutboxd_sessions_total{pipeline=\"p\"} 3\n# EOF",
        );
        assert_eq!(metric.name, "outboxd_sessions_total");
        assert_eq!(metric.unit, "{sessions}");
        assert!(metric.description.starts_with("Sessions begun"));
        let Some(Data::Sum(sum)) = metric.data else {
            panic!("no sum");
        };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality, CUMULATIVE);
        let point = &sum.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        assert_eq!(point.value, Some(Value::AsInt(3)));
        assert_eq!(point.attributes, attributes(vec![("pipeline", "p".into())]));
    }

    #[test]
    fn a_histogram_counts_each_observation_in_one_bucket() {
        let metric = only(
            "# TYPE outboxd_write_back_duration_seconds histogram\n\
             outboxd_write_back_duration_seconds_sum{pipeline=\"a\"} 9.5\n\
             outboxd_write_back_duration_seconds_count{pipeline=\"a\"} 6\n\
             outboxd_write_back_duration_seconds_bucket{le=\"0.5\",pipeline=\"a\"} 1\n\
             outboxd_write_back_duration_seconds_bucket{le=\"1.0\",pipeline=\"a\"} 4\n\
             outboxd_write_back_duration_seconds_bucket{le=\"+Inf\",pipeline=\"a\"} 6\n\
             outboxd_write_back_duration_seconds_sum{pipeline=\"b\"} 0.0\n\
             outboxd_write_back_duration_seconds_count{pipeline=\"b\"} 0\n\
             outboxd_write_back_duration_seconds_bucket{le=\"0.5\",pipeline=\"b\"} 0\n\
             outboxd_write_back_duration_seconds_bucket{le=\"1.0\",pipeline=\"b\"} 0\n\
             outboxd_write_back_duration_seconds_bucket{le=\"+Inf\",pipeline=\"b\"} 0\n# EOF",
        );
        assert_eq!(metric.unit, "s");
        let Some(Data::Histogram(histogram)) = metric.data else {
            panic!("no histogram");
        };
        let [a, b] = histogram.data_points.as_slice() else {
            panic!("not two: {histogram:?}");
        };
        assert_eq!((a.count, a.sum), (6, Some(9.5)));
        assert_eq!(a.bucket_counts, [1, 3, 2]);
        assert_eq!(a.explicit_bounds, [0.5, 1.0]);
        assert_eq!(
            (b.count, b.bucket_counts.as_slice()),
            (0, [0, 0, 0].as_slice())
        );
    }

    #[test]
    fn a_metric_without_samples_is_left_out() {
        let families = parse("# TYPE g gauge\n# EOF").unwrap();
        assert_eq!(families.into_iter().find_map(|f| metric(f, SPAN)), None);
    }

    #[test]
    fn what_the_relay_exposes_is_understood() {
        let text = Metrics::new().expose(&[]);
        let families = parse(&text).unwrap();
        let metrics: Vec<_> = families
            .into_iter()
            .filter_map(|f| metric(f, SPAN))
            .collect();
        let build = metrics.iter().find(|metric| metric.name == "outboxd_build");
        let build = build.unwrap();
        assert!(matches!(&build.data, Some(Data::Gauge(_))), "{build:?}");
        assert_eq!(build.unit, "");
    }
}
