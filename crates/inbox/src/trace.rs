//! The span in which an event is handled, in the trace of the one in which it was written.

use event::envelope::Envelope;
use tracing::Span;

use crate::event::Source;

/// The span of one event. Fields have the names that the relay logs by.
pub(crate) fn span(consumer: &str, envelope: &Envelope, source: &Source, attempt: u32) -> Span {
    let span = tracing::info_span!(
        "event",
        otel.kind = "consumer",
        consumer,
        eventId = %envelope.event_id,
        r#type = %envelope.event_type,
        transferId = envelope.transfer_id.as_deref(),
        topic = %source.topic,
        partition = source.partition,
        offset = source.offset,
        attempt,
        traceparent = envelope.traceparent(),
    );
    #[cfg(feature = "opentelemetry")]
    join(&span, envelope);
    span
}

#[cfg(feature = "opentelemetry")]
fn join(span: &Span, envelope: &Envelope) {
    use opentelemetry::Context;
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    if let Some(context) = envelope.traceparent().and_then(span_context) {
        // Fails only for a span that nobody records, which needs no parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

/// W3C Trace Context, section 3.2: `version-traceid-parentid-flags`, in lower-case hex.
#[cfg(feature = "opentelemetry")]
fn span_context(traceparent: &str) -> Option<opentelemetry::trace::SpanContext> {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    let mut parts = traceparent.split('-');
    let (version, trace_id) = (parts.next()?, parts.next()?);
    let (parent_id, flags) = (parts.next()?, parts.next()?);
    let lengths = [version.len(), trace_id.len(), parent_id.len(), flags.len()];
    if lengths != [2, 32, 16, 2] || version == "ff" {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace_id).ok()?,
        SpanId::from_hex(parent_id).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(all(test, feature = "opentelemetry"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_traceparent_is_read_or_passed_over() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = span_context(text).unwrap();
        assert_eq!(
            context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_remote());
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for wrong in [
            "",
            "00-1-2-03",
            zero,
            &text.replace("00-", "ff-"),
            &text.replace('a', "g"),
        ] {
            assert!(span_context(wrong).is_none(), "{wrong}");
        }
    }
}
