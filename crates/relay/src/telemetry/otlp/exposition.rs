//! Reads the exposition text. It is our own, so whatever is unexpected is a fault.

use crate::telemetry::table::Kind;

/// A metric with all its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Family<'a> {
    /// Of a counter without `_total`.
    pub name: &'a str,
    pub kind: Kind,
    pub samples: Vec<Sample<'a>>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    pub part: Part,
    pub labels: Vec<Label<'a>>,
    pub number: Number,
}

/// Name and value.
pub type Label<'a> = (&'a str, String);

/// What of its metric a sample tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// All of it: a counter or a gauge.
    Value,
    /// Sum of a histogram's observations.
    Sum,
    /// Their number.
    Count,
    /// The number of those that are not above this.
    UpTo(f64),
}

/// A value, as exact as the text has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Int(i64),
    Float(f64),
}

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the exposition: {problem}")]
pub struct Malformed {
    line: usize,
    problem: &'static str,
}

/// Reads all of it.
///
/// # Errors
/// It is not what the relay exposes, or not all of it.
pub fn parse(text: &str) -> Result<Vec<Family<'_>>, Malformed> {
    let mut families = Vec::new();
    let mut lines = 0;
    for line in text.lines() {
        lines += 1;
        if line == "# EOF" {
            return Ok(families);
        }
        read(line, &mut families).map_err(|problem| Malformed {
            line: lines,
            problem,
        })?;
    }
    Err(Malformed {
        line: lines + 1,
        problem: "it ends without an end",
    })
}

fn read<'a>(line: &'a str, families: &mut Vec<Family<'a>>) -> Result<(), &'static str> {
    if let Some(declared) = line.strip_prefix("# TYPE ") {
        families.push(family(declared)?);
    } else if !line.starts_with("# ") {
        let family = families.last_mut().ok_or("a sample without a type")?;
        let sample = sample(line, family.name, family.kind)?;
        family.samples.push(sample);
    }
    Ok(())
}

fn family(declared: &str) -> Result<Family<'_>, &'static str> {
    let (name, kind) = declared.split_once(' ').ok_or("no type")?;
    let mut kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram].into_iter();
    Ok(Family {
        name,
        kind: kinds.find(|k| k.name() == kind).ok_or("an unknown type")?,
        samples: Vec::new(),
    })
}

fn sample<'a>(line: &'a str, family: &str, kind: Kind) -> Result<Sample<'a>, &'static str> {
    let rest = line.strip_prefix(family).ok_or("another metric's sample")?;
    let (suffix, rest) = rest.split_at(rest.find(['{', ' ']).ok_or("no value")?);
    let (mut labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let number = rest.strip_prefix(' ').and_then(number).ok_or("no value")?;
    Ok(Sample {
        part: part(kind, suffix, &mut labels)?,
        labels,
        number,
    })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(Vec<Label<'_>>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("a label without a value")?;
        let (value, after) = unquoted(quoted)?;
        labels.push((name, value));
        rest = match (after.strip_prefix(','), after.strip_prefix('}')) {
            (Some(next), _) => next,
            (None, Some(end)) => return Ok((labels, end)),
            (None, None) => return Err("labels without an end"),
        };
    }
}

/// The text up to the closing quote, and what follows it.
fn unquoted(quoted: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => return Ok((value, chars.as_str())),
            '\\' => value.push(match chars.next() {
                Some('n') => '\n',
                Some(char @ ('\\' | '"')) => char,
                Some(_) | None => return Err("an unknown escape"),
            }),
            char => value.push(char),
        }
    }
    Err("a label's value without an end")
}

/// `le` becomes the part, and is no label any more.
fn part(kind: Kind, suffix: &str, labels: &mut Vec<Label<'_>>) -> Result<Part, &'static str> {
    match (kind, suffix) {
        (Kind::Counter, "_total") | (Kind::Gauge, "") => Ok(Part::Value),
        (Kind::Histogram, "_sum") => Ok(Part::Sum),
        (Kind::Histogram, "_count") => Ok(Part::Count),
        (Kind::Histogram, "_bucket") => {
            let at = labels.iter().position(|(name, _)| *name == "le");
            let (_, bound) = labels.remove(at.ok_or("a bucket without a bound")?);
            bound
                .parse()
                .map(Part::UpTo)
                .or(Err("a bound that is no number"))
        }
        (Kind::Counter | Kind::Gauge | Kind::Histogram, _) => Err("a suffix of another type"),
    }
}

fn number(text: &str) -> Option<Number> {
    let whole = text.parse().map(Number::Int);
    whole.or_else(|_| text.parse().map(Number::Float)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn only(text: &str) -> Family<'_> {
        let mut families = parse(text).unwrap();
        assert_eq!(families.len(), 1);
        families.remove(0)
    }

    #[test]
    fn a_counter_has_whole_numbers() {
        let family = only(
            "# HELP e Events, of each: type.\n# TYPE e counter\n\
             e_total{a=\"x\",b=\"\"} 3\ne_total 18446744073709551615\n# EOF\n",
        );
        assert_eq!((family.name, family.kind), ("e", Kind::Counter));
        let first = &family.samples[0];
        assert_eq!(first.part, Part::Value);
        assert_eq!(first.labels, [("a", "x".into()), ("b", String::new())]);
        assert_eq!(first.number, Number::Int(3));
        assert_eq!(family.samples[1].number, Number::Float(u64::MAX as f64));
    }

    #[test]
    fn a_gauge_may_be_broken_or_negative() {
        let family =
            only("# TYPE g_seconds gauge\n# UNIT g_seconds seconds\ng_seconds -0.5\n# EOF");
        assert_eq!(family.samples[0].number, Number::Float(-0.5));
    }

    #[test]
    fn buckets_have_bounds_and_no_label_for_them() {
        let family = only(
            "# TYPE h histogram\nh_sum{p=\"x\"} 1.5\nh_count{p=\"x\"} 2\n\
             h_bucket{le=\"0.5\",p=\"x\"} 1\nh_bucket{le=\"+Inf\",p=\"x\"} 2\n# EOF",
        );
        let parts: Vec<Part> = family.samples.iter().map(|sample| sample.part).collect();
        let bounds = [Part::UpTo(0.5), Part::UpTo(f64::INFINITY)];
        assert_eq!(parts, [[Part::Sum, Part::Count], bounds].concat());
        let label = [("p", "x".to_owned())];
        assert!(family.samples.iter().all(|sample| sample.labels == label));
    }

    #[test]
    fn what_is_escaped_in_a_label_is_read_back() {
        let family = only("# TYPE g gauge\ng{a=\"\\\"}\\\\n, \\n é\",b=\"=\\\"\"} 1\n# EOF");
        let labels = [("a", "\"}\\n, \n é".to_owned()), ("b", "=\"".to_owned())];
        assert_eq!(family.samples[0].labels, labels);
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for (text, line, problem) in [
            ("", 1, "it ends without an end"),
            ("# TYPE g gauge\ng 1\n", 3, "it ends without an end"),
            ("g 1\n# EOF", 1, "a sample without a type"),
            ("# TYPE g\n# EOF", 1, "no type"),
            ("# TYPE g summary\n# EOF", 1, "an unknown type"),
            (
                "# TYPE g gauge\nother 1\n# EOF",
                2,
                "another metric's sample",
            ),
            ("# TYPE g gauge\ng\n# EOF", 2, "no value"),
            ("# TYPE g gauge\ng one\n# EOF", 2, "no value"),
            (
                "# TYPE g gauge\ng_total 1\n# EOF",
                2,
                "a suffix of another type",
            ),
            ("# TYPE g gauge\ng{} 1\n# EOF", 2, "a label without a value"),
            (
                "# TYPE g gauge\ng{a=\"x\"b=\"y\"} 1\n# EOF",
                2,
                "labels without an end",
            ),
            (
                "# TYPE g gauge\ng{a=\"x\n# EOF",
                2,
                "a label's value without an end",
            ),
            (
                "# TYPE g gauge\ng{a=\"\\x\"} 1\n# EOF",
                2,
                "an unknown escape",
            ),
            (
                "# TYPE h histogram\nh_bucket 1\n# EOF",
                2,
                "a bucket without a bound",
            ),
            (
                "# TYPE h histogram\nh_bucket{le=\"x\"} 1\n# EOF",
                2,
                "a bound that is no number",
            ),
        ] {
            assert_eq!(parse(text), Err(Malformed { line, problem }), "{text}");
        }
    }
}
