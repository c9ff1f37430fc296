//! Topic templates, as in `transfers.{type.domain}`.

use std::{fmt, str::FromStr};

/// Where the events of a table go: literal text with placeholders.
///
/// `{type}` is the event type, `{type.domain}` its part before the first dot, `{service}` the
/// table's service, and any other `{name}` the column of that name. `{{` and `}}` stand for the
/// braces themselves. `Default` is `{type}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    source: String,
    parts: Vec<TopicPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TopicPart {
    Literal(String),
    EventType,
    EventDomain,
    Service,
    Column(String),
}

impl TopicTemplate {
    pub(crate) fn parts(&self) -> &[TopicPart] {
        &self.parts
    }

    /// Where the events of a type go, if nothing but the type decides it.
    pub fn topic_of(&self, event_type: &str) -> Option<String> {
        let parts = self.parts.iter().map(|part| match part {
            TopicPart::Literal(text) => Some(text.as_str()),
            TopicPart::EventType => Some(event_type),
            TopicPart::EventDomain => Some(domain(event_type)),
            TopicPart::Service | TopicPart::Column(_) => None,
        });
        parts.collect()
    }
}

/// The part of an event type before its first dot; all of it, if there is none.
pub(crate) fn domain(event_type: &str) -> &str {
    event_type
        .split_once('.')
        .map_or(event_type, |(domain, _)| domain)
}

impl Default for TopicTemplate {
    fn default() -> Self {
        Self {
            source: "{type}".into(),
            parts: vec![TopicPart::EventType],
        }
    }
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// A text that is no [`TopicTemplate`]. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicTemplateError {
    /// There is no text.
    #[error("the topic is empty: give a name, or a template such as {{type}}")]
    Empty,
    /// A placeholder has no end.
    #[error(
        "the {{ at character {at} opens a placeholder that is never closed: add }} after its \
         name, or write {{{{ for the brace itself"
    )]
    Unclosed {
        /// Where the brace is.
        at: usize,
    },
    /// A closing brace closes nothing.
    #[error(
        "the }} at character {at} closes nothing: remove it, or write }}}} for the brace itself"
    )]
    Stray {
        /// Where the brace is.
        at: usize,
    },
    /// A placeholder is neither a known one nor the name of a column.
    #[error(
        "{{{name}}} at character {at} is no placeholder: use {{type}}, {{type.domain}}, \
         {{service}} or the name of a column"
    )]
    Unknown {
        /// What stands between the braces.
        name: String,
        /// Where its opening brace is.
        at: usize,
    },
}

impl FromStr for TopicTemplate {
    type Err = TopicTemplateError;

    fn from_str(source: &str) -> Result<Self, TopicTemplateError> {
        if source.is_empty() {
            return Err(TopicTemplateError::Empty);
        }
        let mut parser = Parser {
            source,
            rest: source,
            parts: Vec::new(),
            literal: String::new(),
        };
        while let Some(brace) = parser.next_brace() {
            match brace {
                '{' => parser.placeholder()?,
                _ => return Err(TopicTemplateError::Stray { at: parser.at() }),
            }
        }
        parser.end_literal();
        Ok(Self {
            source: source.into(),
            parts: parser.parts,
        })
    }
}

struct Parser<'s> {
    source: &'s str,
    rest: &'s str,
    parts: Vec<TopicPart>,
    literal: String,
}

impl Parser<'_> {
    /// Takes literal text, escapes resolved, up to the next single brace.
    fn next_brace(&mut self) -> Option<char> {
        loop {
            let Some((text, brace)) = self
                .rest
                .find(['{', '}'])
                .and_then(|at| self.rest.split_at_checked(at))
            else {
                self.literal.push_str(self.rest);
                self.rest = "";
                return None;
            };
            self.literal.push_str(text);
            self.rest = brace;
            let found = if brace.starts_with('{') { '{' } else { '}' };
            match brace
                .strip_prefix(found)
                .and_then(|rest| rest.strip_prefix(found))
            {
                Some(rest) => {
                    self.literal.push(found);
                    self.rest = rest;
                }
                None => return Some(found),
            }
        }
    }

    fn placeholder(&mut self) -> Result<(), TopicTemplateError> {
        let at = self.at();
        let inside = self
            .rest
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'));
        let Some((name, rest)) = inside.filter(|(name, _)| !name.contains('{')) else {
            return Err(TopicTemplateError::Unclosed { at });
        };
        let part = match name {
            "type" => TopicPart::EventType,
            "type.domain" => TopicPart::EventDomain,
            "service" => TopicPart::Service,
            column if !column.is_empty() && !column.contains(['.', ' ']) => {
                TopicPart::Column(column.into())
            }
            _ => {
                return Err(TopicTemplateError::Unknown {
                    name: name.into(),
                    at,
                });
            }
        };
        self.rest = rest;
        self.end_literal();
        self.parts.push(part);
        Ok(())
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.parts
                .push(TopicPart::Literal(std::mem::take(&mut self.literal)));
        }
    }

    /// The place of `rest` in characters from 1.
    fn at(&self) -> usize {
        self.source.chars().count() - self.rest.chars().count() + 1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[TopicPart]) {
        let template = source.parse::<TopicTemplate>().unwrap();
        assert_eq!(template.parts(), expected, "{source}");
        assert_eq!(template.to_string(), source);
    }

    fn literal(text: &str) -> TopicPart {
        TopicPart::Literal(text.into())
    }

    fn column(name: &str) -> TopicPart {
        TopicPart::Column(name.into())
    }

    #[test]
    fn literal_text_and_placeholders_are_read() {
        check("transfers", &[literal("transfers")]);
        check("{type}", &[TopicPart::EventType]);
        check(
            "{type.domain}.events",
            &[TopicPart::EventDomain, literal(".events")],
        );
        check(
            "a.{service}.b",
            &[literal("a."), TopicPart::Service, literal(".b")],
        );
        check(
            "outbox.event.{aggregatetype}",
            &[literal("outbox.event."), column("aggregatetype")],
        );
        check("{a}{b}", &[column("a"), column("b")]);
    }

    #[test]
    fn doubled_braces_stand_for_themselves() {
        check("a{{b}}c", &[literal("a{b}c")]);
        check(
            "{{{type}}}",
            &[literal("{"), TopicPart::EventType, literal("}")],
        );
    }

    #[test]
    fn the_default_is_the_event_type() {
        assert_eq!(TopicTemplate::default(), "{type}".parse().unwrap());
    }

    #[test]
    fn the_topic_of_a_type_is_known_unless_the_row_decides_it() {
        let topic = |template: &str| {
            let template: TopicTemplate = template.parse().unwrap();
            template.topic_of("transfers.settled")
        };
        assert_eq!(topic("{type}").as_deref(), Some("transfers.settled"));
        assert_eq!(
            topic("a.{type.domain}.{{").as_deref(),
            Some("a.transfers.{")
        );
        assert_eq!(topic("{service}"), None);
        assert_eq!(topic("{type}.{tenant}"), None);
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let message = |source: &str| source.parse::<TopicTemplate>().unwrap_err().to_string();
        assert_eq!(
            message(""),
            "the topic is empty: give a name, or a template such as {type}"
        );
        assert_eq!(
            message("é.{type"),
            "the { at character 3 opens a placeholder that is never closed: add } after its \
             name, or write {{ for the brace itself"
        );
        assert_eq!(
            message("a}b"),
            "the } at character 2 closes nothing: remove it, or write }} for the brace itself"
        );
        assert_eq!(
            message("a.{type.domian}"),
            "{type.domian} at character 3 is no placeholder: use {type}, {type.domain}, \
             {service} or the name of a column"
        );
        assert!(message("{}").starts_with("{} at character 1 is no placeholder"));
        assert!(message("{a{b}").starts_with("the { at character 1 opens"));
    }
}
