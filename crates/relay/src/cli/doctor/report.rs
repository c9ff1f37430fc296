//! What the doctor found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::problem::Problem;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Events flow, but something is at risk.
    Warn,
    /// Events do not flow, or would be lost.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
    /// What `outboxd explain` knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What to do, unless it is in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            detail: detail.into(),
            code: None,
            fix: None,
        }
    }

    pub fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            fix: Some(fix.into()),
            ..Self::ok(name, detail)
        }
    }

    pub fn fail(name: &'static str, problem: impl Into<Problem>) -> Self {
        let problem = problem.into();
        Self {
            verdict: Verdict::Fail,
            code: problem.code,
            fix: Some(problem.remedy),
            ..Self::ok(name, problem.message)
        }
    }

    /// A failed check whose failure is not in the way.
    pub fn softened(self) -> Self {
        Self {
            verdict: self.verdict.min(Verdict::Warn),
            ..self
        }
    }
}

/// All checks of one pipeline, or of the configuration as a whole.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    pub checks: Vec<Check>,
}

/// All checks.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub sections: Vec<Section>,
}

/// How many checks ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    pub ok: usize,
    pub warnings: usize,
    pub failures: usize,
}

impl Report {
    pub fn count(&self) -> Count {
        let of = |verdict| {
            let checks = self.sections.iter().flat_map(|s| &s.checks);
            checks.filter(|c| c.verdict == verdict).count()
        };
        Count {
            ok: of(Verdict::Ok),
            warnings: of(Verdict::Warn),
            failures: of(Verdict::Fail),
        }
    }

    /// One line per check, another one with the fix where there is something to do, and the count.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            let is_one_of_several = self.sections.len() > 2;
            if let (Some(pipeline), true) = (&section.pipeline, is_one_of_several) {
                let _ = writeln!(text, "pipeline {pipeline}");
            }
            for check in &section.checks {
                write_check(&mut text, check);
            }
        }
        let count = self.count();
        let _ = writeln!(
            text,
            "{} ok, {}, {}",
            count.ok,
            counted(count.warnings, "warning"),
            counted(count.failures, "failure"),
        );
        text
    }

    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            sections: &'a [Section],
            #[serde(flatten)]
            count: Count,
        }
        let whole = Whole {
            sections: &self.sections,
            count: self.count(),
        };
        serde_json::to_string_pretty(&whole).unwrap_or_default()
    }
}

fn write_check(text: &mut String, check: &Check) {
    let verdict = match check.verdict {
        Verdict::Ok => "OK",
        Verdict::Warn => "WARN",
        Verdict::Fail => "FAIL",
    };
    let code = check.code.map(|c| format!(" [{c}]")).unwrap_or_default();
    let detail = check.detail.replace('\n', "\n        ");
    let _ = writeln!(text, "{verdict:<5} {:<22} {detail}{code}", check.name);
    if let Some(fix) = &check.fix {
        let _ = writeln!(text, "      fix: {fix}");
    }
}

fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn report() -> Report {
        let checks = vec![
            Check::ok("server", "18.4"),
            Check::warn("retention", "unlimited", "Set a limit."),
            Check::fail("slot", Failure::new("slot-lost", "slot \"s\" is lost")),
        ];
        let section = |pipeline: Option<&str>, checks| Section {
            pipeline: pipeline.map(str::to_owned),
            checks,
        };
        Report {
            sections: vec![
                section(None, vec![Check::ok("configuration", "valid")]),
                section(Some("a"), checks),
            ],
        }
    }

    #[test]
    fn each_check_is_a_line_and_what_is_wrong_has_a_fix() {
        let text = report().text();
        let mut lines = text.lines();
        let remedy = crate::failure::find("slot-lost").map(|code| code.remedy);
        let expected = [
            "OK    configuration          valid".to_owned(),
            "OK    server                 18.4".to_owned(),
            "WARN  retention              unlimited".to_owned(),
            "      fix: Set a limit.".to_owned(),
            "FAIL  slot                   slot \"s\" is lost [slot-lost]".to_owned(),
            format!("      fix: {}", remedy.unwrap_or_default()),
            "2 ok, 1 warning, 1 failure".to_owned(),
        ];
        for line in expected {
            assert_eq!(lines.next(), Some(line.as_str()));
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn several_pipelines_are_told_apart() {
        let mut report = report();
        report.sections.push(Section {
            pipeline: Some("b".into()),
            checks: Vec::new(),
        });
        assert!(report.text().contains("\npipeline a\n"));
    }

    #[test]
    fn json_counts_too() {
        let json: serde_json::Value =
            serde_json::from_str(&report().json()).expect("a JSON document");
        assert_eq!(json["failures"], 1);
        assert_eq!(json["sections"][1]["checks"][2]["code"], "slot-lost");
        assert_eq!(json["sections"][1]["checks"][0]["verdict"], "ok");
    }

    #[test]
    fn a_softened_failure_is_a_warning_and_an_ok_stays() {
        let failed = Check::fail("slot", Failure::new("slot-lost", "lost"));
        assert_eq!(failed.softened().verdict, Verdict::Warn);
        assert_eq!(Check::ok("a", "b").softened().verdict, Verdict::Ok);
    }
}
