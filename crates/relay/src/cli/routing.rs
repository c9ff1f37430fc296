//! What the configuration tells of the topics that events go to.

use std::collections::BTreeSet;

use envelope::TableSpec;

use crate::config::Pipeline;

/// The one topic of a table whose template names nothing of the row.
pub(super) fn literal_topic(spec: &TableSpec) -> Option<String> {
    let topic = spec.topic.to_string().replace("{service}", &spec.service);
    (!topic.contains(['{', '}'])).then_some(topic)
}

/// The templates whose topics only the events tell.
pub(super) fn open_templates(pipeline: &Pipeline) -> BTreeSet<String> {
    let open = |spec: &&TableSpec| literal_topic(spec).is_none();
    let tables = pipeline.tables.iter().filter(open);
    tables.map(|spec| spec.topic.to_string()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_template_is_literal_when_it_names_nothing_of_the_row() {
        let check = |template: &str, expected: Option<&str>| {
            let spec = TableSpec {
                service: "payments".into(),
                topic: template.parse().unwrap(),
                ..TableSpec::default()
            };
            assert_eq!(literal_topic(&spec).as_deref(), expected, "{template}");
        };
        check("{type}", None);
        check("x.{type.domain}", None);
        check("{tenant}", None);
        check("transfers.all", Some("transfers.all"));
        check("transfers.{service}", Some("transfers.payments"));
    }
}
