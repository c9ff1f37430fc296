//! `outboxd dlq replay`, `release` and `drop`: requests to the relay.

use clap::Args;
use delivery::{Command, Filter, RecordKey};
use serde_json::{Value, json};

use super::choice::{FilterArgs, require_service};
use super::confirm::confirmed;
use super::preview::{Outcome, Parked, Preview, Target};
use super::{Scope, show};
use crate::cli::out::say;
use crate::cli::problem::Problem;
use crate::cli::requests::{self, Waiting};
use crate::config::Pipeline;
use crate::failure::Failure;
use crate::feed::{self, Connection};

/// Of `replay` and `drop`.
#[derive(Args)]
pub(super) struct LettersArgs {
    #[command(flatten)]
    pub scope: Scope,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    request: RequestArgs,
}

#[derive(Args)]
pub(super) struct ReleaseArgs {
    #[command(flatten)]
    pub scope: Scope,
    /// The service whose key it is.
    #[arg(long, value_name = "SERVICE")]
    service: String,
    /// The record key.
    #[arg(long, value_name = "KEY", required_unless_present_any = ["key_hex", "key_sha256"])]
    key: Option<String>,
    /// The record key, if it is no text: two hexadecimal digits for each byte, as list and stats show it.
    #[arg(long, value_name = "HEX", value_parser = RecordKey::from_hex, conflicts_with = "key")]
    key_hex: Option<RecordKey>,
    /// The SHA-256 of a record key of more than 1,024 bytes, as list and stats show it.
    #[arg(long, value_name = "HEX", value_parser = RecordKey::from_sha256, conflicts_with_all = ["key", "key_hex"])]
    key_sha256: Option<RecordKey>,
    #[command(flatten)]
    request: RequestArgs,
}

impl ReleaseArgs {
    /// One of the three is given.
    fn key(&self) -> RecordKey {
        let digits = self.key_hex.clone().or_else(|| self.key_sha256.clone());
        digits.unwrap_or_else(|| self.key.as_deref().unwrap_or_default().into())
    }
}

/// Which letters. Something must be said.
#[derive(Args)]
struct ChoiceArgs {
    /// The letter at topic/partition:offset, or those of the event with this id; may be repeated.
    #[arg(value_name = "PLACE|EVENT_ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All that are open.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl ChoiceArgs {
    /// What is to be done with them.
    fn target(
        &self,
        pipeline: &Pipeline,
        command: impl FnOnce(Filter) -> Command,
    ) -> Result<Target, Problem> {
        let filter = self.filter.filter(pipeline, &self.ids)?;
        if filter == Filter::default() && !self.all {
            return Err(Problem::new(
                "nothing says which dead letters are meant",
                "Name them by topic/partition:offset or event id, give filters such as --class, or \
                 --all. All that is given must hold.",
            ));
        }
        let command = command(filter.clone());
        Ok(Target { command, filter })
    }
}

#[derive(Args)]
struct RequestArgs {
    /// Why; it is kept in outboxd.control.
    #[arg(long)]
    reason: String,
    /// Do it without asking. Where nobody can be asked, without it nothing is done.
    #[arg(long)]
    yes: bool,
    /// Id of the request: a command that is given again with the same one is one command.
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    request_id: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn replay(args: &LettersArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let replay = |filter| Command::DlqReplay { filter };
    let target = args.choice.target(pipeline, replay)?;
    request(&args.scope, &args.request, pipeline, &target).await
}

pub(super) async fn drop_letters(args: &LettersArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    let drop = |filter| Command::DlqDrop { filter };
    let target = args.choice.target(pipeline, drop)?;
    request(&args.scope, &args.request, pipeline, &target).await
}

pub(super) async fn release(args: &ReleaseArgs, pipeline: &Pipeline) -> Result<(), Problem> {
    require_service(pipeline, Some(&args.service))?;
    let (service, key) = (args.service.clone(), args.key());
    let filter = Filter {
        service: Some(service.clone()),
        key: Some(key.clone()),
        ..Filter::default()
    };
    let command = Command::DlqRelease { service, key };
    let target = Target { command, filter };
    request(&args.scope, &args.request, pipeline, &target).await
}

async fn request(
    scope: &Scope,
    args: &RequestArgs,
    pipeline: &Pipeline,
    target: &Target,
) -> Result<(), Problem> {
    if args.reason.trim().is_empty() {
        return Err(Problem::new("--reason is empty", "Say why."));
    }
    let connection = requests::open(pipeline, "this command")
        .await
        .map_err(requests::refused)?;
    let command = written(&target.command)?;
    let given = args.request_id.as_deref();
    let is_repeated = match given {
        Some(id) => is_repeated(&connection, pipeline, id, &command).await?,
        None => false,
    };
    let command = match is_repeated {
        true => command,
        false => match agreed(scope, args, pipeline, target).await? {
            Some(newest) => up_to(&target.command, &newest)?,
            None => return Ok(()),
        },
    };
    let id = given.map_or_else(feed::new_request, str::to_owned);
    let is_new = requests::insert(&connection, pipeline, &id, &args.reason, &command)
        .await
        .map_err(requests::refused)?;
    // The commit was flushed, so the flushed WAL ends behind it.
    let committed = connection.wal_end().await?;
    let mut document = json!({ "request": id, "repeated": !is_new, "done": false });
    if args.waiting.no_wait {
        let text = format!("request {id} is written down");
        tell(scope.json, &document, &[text]);
        return Ok(());
    }
    requests::await_confirmed(&connection, pipeline, committed, args.waiting.timeout).await?;
    drop(connection);
    let parked = Parked::read(pipeline).await?;
    let outcome = Outcome::of(target, &id, pipeline, &parked)?;
    tell_outcome(scope.json, &mut document, &outcome, target, &parked);
    outcome.shortfall(target, &parked).map_or(Ok(()), Err)
}

fn written(command: &Command) -> Result<Value, Failure> {
    serde_json::to_value(command).map_err(|e| Failure::caused("internal", "writing a request", &e))
}

/// The command as it was agreed to: what is dead-lettered later, until the relay gets there, was not
/// shown. A release takes it along, for order.
fn up_to(command: &Command, newest: &str) -> Result<Value, Failure> {
    let mut command = command.clone();
    if let Command::DlqReplay { filter } | Command::DlqDrop { filter } = &mut command {
        // As texts are compared, behind it and before everything later.
        filter.until.get_or_insert_with(|| format!("{newest}~"));
    }
    written(&command)
}

/// Whether it was given before. Another command with the same id is a mistake.
async fn is_repeated(
    connection: &Connection,
    pipeline: &Pipeline,
    id: &str,
    command: &Value,
) -> Result<bool, Problem> {
    let Some(earlier) = requests::find(connection, pipeline, id).await? else {
        return Ok(false);
    };
    if without_end(&earlier) == without_end(command) {
        return Ok(true);
    }
    Err(Problem::new(
        format!("request {id} is another command: {earlier}"),
        "Give another --request-id, or none.",
    ))
}

/// An age that is given again ends at another moment.
fn without_end(command: &Value) -> Value {
    let mut command = command.clone();
    if let Some(Value::Object(filter)) = command.get_mut("filter") {
        filter.remove("until");
    }
    command
}

/// Shows what would be done. If it is to be done, when the newest of these letters became one.
async fn agreed(
    scope: &Scope,
    args: &RequestArgs,
    pipeline: &Pipeline,
    target: &Target,
) -> Result<Option<String>, Problem> {
    let parked = Parked::read(pipeline).await?;
    let preview = Preview::of(target, pipeline, &parked)?;
    if !preview.unknown.is_empty() {
        let ids: Vec<_> = preview.unknown.iter().map(String::as_str).collect();
        return Err(show::no_such(&ids));
    }
    if let Command::DlqRelease { service, key } = &target.command {
        let is_parked = parked.contains(service, key);
        if !is_parked && preview.letters == 0 {
            return Err(Problem::new(
                format!("key {key} of service {service} is not parked"),
                "`outboxd dlq stats` names the keys that are.",
            ));
        }
    } else if preview.letters == 0 {
        let mut lines = vec!["no open dead letter is like that".to_owned()];
        lines.extend(preview.left.advice());
        tell(scope.json, &preview.document(), &lines);
        return Ok(None);
    }
    if args.yes {
        return Ok(Some(preview.newest));
    }
    let verb = target.verb();
    if !scope.json {
        let lines = preview.lines(verb);
        lines.iter().for_each(|line| say!("{line}"));
        if confirmed(&format!("{verb} them?")) {
            return Ok(Some(preview.newest));
        }
    }
    let hint = "nothing was done: --yes does it".to_owned();
    tell(scope.json, &preview.document(), &[hint]);
    Ok(None)
}

fn tell_outcome(
    json: bool,
    document: &mut Value,
    outcome: &Outcome,
    target: &Target,
    parked: &Parked,
) {
    document["done"] = true.into();
    document["published"] = outcome.published.into();
    document["failed_again"] = outcome.open_again.into();
    document["dropped"] = outcome.dropped.into();
    document["left"] = outcome.left.document();
    let mut lines = vec![match target.command {
        Command::DlqDrop { .. } => format!("dropped {} dead letters", outcome.dropped),
        Command::DlqReplay { .. } | Command::DlqRelease { .. } | Command::Replay { .. } => {
            format!("published {} events", outcome.published)
        }
    }];
    lines.extend(outcome.left.advice());
    if let Command::DlqRelease { service, key } = &target.command {
        let is_parked = parked.contains(service, key);
        document["parked"] = is_parked.into();
        if !is_parked {
            lines.push("the key goes on".to_owned());
        }
    }
    tell(json, document, &lines);
}

fn tell(json: bool, document: &Value, lines: &[String]) {
    match json {
        true => say!("{document}"),
        false => lines.iter().for_each(|line| say!("{line}")),
    }
}

/// A UUID, as Postgres writes it.
fn uuid(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    match is_uuid {
        true => Ok(text),
        false => Err("a UUID is written as 0191d2f0-6a3e-7c11-8a53-2f1d6c0e9b77".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_id_has_the_form_in_which_it_comes_back() {
        let id = "0191D2F0-6a3e-7c11-8a53-2f1d6c0e9b77";
        assert_eq!(uuid(id).unwrap(), id.to_lowercase());
        for wrong in [
            "",
            "0191d2f06a3e7c118a532f1d6c0e9b77",
            &id.replace('f', "g"),
        ] {
            assert!(uuid(wrong).is_err(), "{wrong}");
        }
    }

    #[derive(clap::Parser)]
    struct Release {
        #[command(flatten)]
        args: ReleaseArgs,
    }

    #[test]
    fn a_key_is_released_by_its_text_or_its_bytes() {
        let key = |options: &[&str]| {
            let given = [&["release", "--service", "s", "--reason", "r"], options].concat();
            let release = <Release as clap::Parser>::try_parse_from(given);
            release.map(|release| release.args.key()).ok()
        };
        assert_eq!(key(&["--key", "k"]), Some("k".into()));
        assert_eq!(key(&["--key-hex", "ff00"]), Some(b"\xff\x00".into()));
        let long = RecordKey::from(vec![b'k'; 5_000]);
        let sha256 = long.shown().sha256.unwrap();
        assert_eq!(key(&["--key-sha256", &sha256]), Some(long));
        for wrong in [
            &[][..],
            &["--key-sha256", "ff00"],
            &["--key", "k", "--key-sha256", &sha256],
            &["--key-hex", "k"],
            &["--key", "k", "--key-hex", "00"],
        ] {
            assert_eq!(key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_became_dead_after_it_was_shown_is_not_meant() {
        let newest = "2026-11-24T10:00:00.000001Z";
        let entry = |last_failure| envelope::dead_letter::Entry {
            last_failure,
            ..Default::default()
        };
        let drop = Command::DlqDrop {
            filter: Filter::default(),
        };
        let written: Command = serde_json::from_value(up_to(&drop, newest).unwrap()).unwrap();
        let Command::DlqDrop { filter } = written else {
            panic!("another command");
        };
        assert!(filter.matches(&entry(newest), None, ""));
        assert!(!filter.matches(&entry("2026-11-24T10:00:00.000002Z"), None, ""));
    }

    #[test]
    fn an_age_given_again_is_the_same_command() {
        let of = |until: &str, class: &str| {
            without_end(
                &json!({ "command": "dlq-drop", "filter": { "until": until, "class": class } }),
            )
        };
        assert_eq!(of("1", "a"), of("2", "a"));
        assert_ne!(of("1", "a"), of("1", "b"));
    }
}
