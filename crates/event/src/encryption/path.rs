//! Fields of a payload, and where they stand in its text.

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use serde::{
    Deserialize, Deserializer as _,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// What every path begins with.
const ROOT: &str = "payload";
/// Stands for every element of an array.
const EACH: &str = "*";

/// A field of a payload, such as `payload.customer.name`, or `payload.items.*.iban` for each element
/// of an array.
///
/// It must be there, in every element that a `*` stands for; an array may be empty. A `?` at the end lets
/// it be missing. A member whose name has a dot can't be named.
///
/// ```
/// use event::encryption::FieldPath;
///
/// let path: FieldPath = "payload.note?".parse()?;
/// assert!(path.may_be_missing());
/// assert_eq!(path.to_string(), "payload.note");
/// assert!("note".parse::<FieldPath>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    /// Behind [`ROOT`]; never empty.
    segments: Vec<String>,
    may_be_missing: bool,
}

/// A text that is no [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path:?} names no field of a payload: write it like payload.customer.name, payload.items.*.iban \
     or payload.note?"
)]
pub struct FieldPathError {
    /// What was given.
    pub path: String,
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(path: &str) -> Result<Self, FieldPathError> {
        let (plain, may_be_missing) = match path.strip_suffix('?') {
            Some(plain) => (plain, true),
            None => (path, false),
        };
        let mut segments = plain.split('.').map(str::to_owned);
        let is_rooted = segments.next().is_some_and(|root| root == ROOT);
        let segments: Vec<_> = segments.collect();
        if !is_rooted || segments.is_empty() || segments.iter().any(String::is_empty) {
            return Err(FieldPathError { path: path.into() });
        }
        Ok(Self {
            segments,
            may_be_missing,
        })
    }
}

/// Without the `?`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ROOT)?;
        self.segments
            .iter()
            .try_for_each(|segment| write!(f, ".{segment}"))
    }
}

/// Where a path leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// All values that it leads to, in the order of the text.
    pub found: Vec<Found>,
    /// Somewhere it leads to nothing, as in one element of many.
    pub is_missed: bool,
}

/// A value that a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// With the number of the element in the place of each `*`.
    pub path: String,
    /// Where it stands in the payload's text.
    pub span: Range<usize>,
}

impl FieldPath {
    /// Whether it may lead nowhere.
    pub fn may_be_missing(&self) -> bool {
        self.may_be_missing
    }

    /// Whether one leads to a part of what the other leads to.
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_same =
            |(one, other): (&String, &String)| one == other || one == EACH || other == EACH;
        self.segments.iter().zip(&other.segments).all(is_same)
    }

    /// Where it leads in this payload.
    pub(super) fn find(&self, payload: &RawValue) -> Result<Places, serde_json::Error> {
        let mut search = Search {
            text: payload.get(),
            places: Places::default(),
        };
        search.descend(payload, &self.segments, ROOT)?;
        Ok(search.places)
    }
}

struct Search<'a> {
    text: &'a str,
    places: Places,
}

impl<'a> Search<'a> {
    fn descend(
        &mut self,
        value: &'a RawValue,
        segments: &[String],
        path: &str,
    ) -> Result<(), serde_json::Error> {
        let Some((segment, rest)) = segments.split_first() else {
            let start = value.get().as_ptr().addr() - self.text.as_ptr().addr();
            self.places.found.push(Found {
                path: path.to_owned(),
                span: start..start + value.get().len(),
            });
            return Ok(());
        };
        let text = value.get();
        if text.starts_with('{') {
            let mut named = members(text)?;
            named.retain(|(name, _)| name == segment);
            self.places.is_missed |= named.is_empty();
            for (name, member) in named {
                self.descend(member, rest, &format!("{path}.{name}"))?;
            }
        } else if text.starts_with('[') && segment == EACH {
            for (number, element) in elements(text)?.into_iter().enumerate() {
                self.descend(element, rest, &format!("{path}.{number}"))?;
            }
        } else {
            self.places.is_missed = true;
        }
        Ok(())
    }
}

/// Puts other text in the place of what was found. The places must not overlap.
pub(super) fn splice(text: &str, mut places: Vec<(Range<usize>, String)>) -> String {
    places.sort_by_key(|(span, _)| span.start);
    let mut result = String::with_capacity(text.len());
    let mut from = 0;
    for (span, replacement) in places {
        result.push_str(text.get(from..span.start).unwrap_or_default());
        result.push_str(&replacement);
        from = span.end;
    }
    result.push_str(text.get(from..).unwrap_or_default());
    result
}

/// The members of an object, as they stand there, so that no number is changed on the way.
fn members(object: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, serde_json::Error> {
    serde_json::Deserializer::from_str(object).deserialize_map(Members)
}

fn elements(array: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    serde_json::Deserializer::from_str(array).deserialize_seq(Elements)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(elements)
    }
}

/// A member's name, copied only if it holds escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: de::Deserializer<'de>>(self, name: D) -> Result<Cow<'de, str>, D::Error> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        Text::deserialize(name).map(|Text(text)| text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(text: &str, payload: &str, expected: &[(&str, &str)]) {
        let raw: &RawValue = serde_json::from_str(payload).unwrap();
        let found = path(text).find(raw).unwrap().found;
        let found: Vec<_> = found
            .iter()
            .map(|found| (found.path.as_str(), &raw.get()[found.span.clone()]))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_leads_to_values_as_they_stand_there() {
        let payload = r#" {"a": {"b": 1.10, "c": "x"}, "b": 2} "#;
        check("payload.a.b", payload, &[("payload.a.b", "1.10")]);
        check(
            "payload.a",
            payload,
            &[("payload.a", r#"{"b": 1.10, "c": "x"}"#)],
        );
        check("payload.c", payload, &[]);
        check("payload.a.b.c", payload, &[]);
        check("payload.a", "[1]", &[]);
        check("payload.a", "null", &[]);
    }

    #[test]
    fn every_element_is_found_and_every_spelling_of_a_name() {
        check(
            "payload.*.n",
            r#"[{"n":1},{},{"n":[2]},3]"#,
            &[("payload.0.n", "1"), ("payload.2.n", "[2]")],
        );
        check("payload.a", r#"{"\u0061": 1}"#, &[("payload.a", "1")]);
        check(
            "payload.a",
            r#"{"a": 1, "a": 2}"#,
            &[("payload.a", "1"), ("payload.a", "2")],
        );
        check("payload.*", r#"{"*": 1, "b": 2}"#, &[("payload.*", "1")]);
    }

    #[test]
    fn a_path_misses_where_one_element_has_no_such_field() {
        for (payload, is_missed) in [
            (r#"{"items": [{"iban": 1}, {"iban": null}]}"#, false),
            (r#"{"items": []}"#, false),
            (r#"{"items": [{"iban": 1}, {}]}"#, true),
            (r#"{"items": [{"iban": 1}, null]}"#, true),
            (r#"{"items": {"iban": 1}}"#, true),
            (r#"{"items": null}"#, true),
            ("{}", true),
        ] {
            let raw: &RawValue = serde_json::from_str(payload).unwrap();
            let places = path("payload.items.*.iban").find(raw).unwrap();
            assert_eq!(places.is_missed, is_missed, "{payload}");
        }
    }

    #[test]
    fn what_stands_around_is_left_as_it_is() {
        let text = r#"{"a": 1.10,  "b" : [2, 3]}"#;
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let span = |name: &str| path(name).find(raw).unwrap().found[0].span.clone();
        let places = vec![
            (span("payload.b"), "B".into()),
            (span("payload.a"), "AAA".into()),
        ];
        assert_eq!(splice(text, places), r#"{"a": AAA,  "b" : B}"#);
        assert_eq!(splice(text, Vec::new()), text);
    }

    #[test]
    fn only_fields_of_the_payload_are_paths() {
        for text in [
            "",
            "payload",
            "payload.",
            "payload..a",
            "a.b",
            "payload?",
            ".payload.a",
        ] {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
        assert!(path("payload.a?").may_be_missing());
        assert_eq!(path("payload.a.b?").to_string(), "payload.a.b");
    }

    #[test]
    fn paths_overlap_if_one_leads_into_the_other() {
        let overlap = |one: &str, other: &str| path(one).overlaps(&path(other));
        assert!(overlap("payload.a", "payload.a"));
        assert!(overlap("payload.a", "payload.a.b"));
        assert!(overlap("payload.a.b", "payload.a"));
        assert!(overlap("payload.*.b", "payload.a.b"));
        assert!(!overlap("payload.a.b", "payload.a.c"));
        assert!(!overlap("payload.a", "payload.ab"));
    }
}
