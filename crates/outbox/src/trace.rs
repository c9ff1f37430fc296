//! The place of the current span in its trace, as W3C Trace Context headers.

use opentelemetry::trace::TraceContextExt;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::Event;
use ::event::envelope::TRACEPARENT_HEADER as TRACEPARENT;

const TRACESTATE: &str = "tracestate";

/// Adds them, unless the event has a `traceparent` of its own or there is no trace.
pub(crate) fn add_context(event: &mut Event) {
    let has_own = event.headers.iter().any(|(name, _)| name == TRACEPARENT);
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    if has_own || !span.is_valid() {
        return;
    }
    let parent = format!(
        "00-{}-{}-{:02x}",
        span.trace_id(),
        span.span_id(),
        span.trace_flags()
    );
    event.set_header(TRACEPARENT.into(), parent.into());
    let state = span.trace_state().header();
    if !state.is_empty() {
        event.set_header(TRACESTATE.into(), state.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn traceparent(event: &Event) -> Option<&str> {
        let header = event.headers.iter().find(|(name, _)| name == TRACEPARENT);
        header.and_then(|(_, value)| value.as_str())
    }

    fn in_a_trace<T>(work: impl FnOnce() -> T) -> T {
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("settle").in_scope(work)
        })
    }

    #[test]
    fn the_current_span_goes_with_the_event() {
        let (event, expected) = in_a_trace(|| {
            let mut event = Event::new("a");
            add_context(&mut event);
            let context = tracing::Span::current().context();
            let span = context.span().span_context().clone();
            (
                event,
                format!("00-{}-{}-01", span.trace_id(), span.span_id()),
            )
        });
        assert_eq!(traceparent(&event), Some(expected.as_str()));
    }

    #[test]
    fn a_traceparent_of_its_own_is_left() {
        let event = in_a_trace(|| {
            let mut event = Event::new("a").header(TRACEPARENT, "mine");
            add_context(&mut event);
            event
        });
        assert_eq!(traceparent(&event), Some("mine"));
    }

    #[test]
    fn without_a_trace_there_is_no_header() {
        let mut event = Event::new("a");
        add_context(&mut event);
        assert_eq!(traceparent(&event), None);
    }
}
