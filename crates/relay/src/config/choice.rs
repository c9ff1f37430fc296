//! Settings with a fixed set of names.

use delivery::{OnDeadLetter, WriteBack};

use super::LogFormat;
use super::consumers::OffsetReset;
use super::error::{Fault, quoted};
use super::nearest::nearest;
use super::pipeline::{Mode, SinkKind};
use super::postgres::SslMode;

/// A setting that is one of a few names.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every value with its name in TOML.
    const NAMES: &'static [(&'static str, Self)];
}

impl Choice for Mode {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("exactly-once", Self::ExactlyOnce),
        ("at-least-once", Self::AtLeastOnce),
    ];
}

impl Choice for SinkKind {
    const NAMES: &'static [(&'static str, Self)] =
        &[("kafka", Self::Kafka), ("stdout", Self::Stdout)];
}

impl Choice for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("json", Self::Json), ("text", Self::Text)];
}

impl Choice for SslMode {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl Choice for OffsetReset {
    const NAMES: &'static [(&'static str, Self)] =
        &[("earliest", Self::Earliest), ("latest", Self::Latest)];
}

impl Choice for OnDeadLetter {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("continue", Self::Continue),
        ("park-key", Self::ParkKey),
        ("halt", Self::Halt),
    ];
}

impl Choice for WriteBack {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("all", Self::All),
        ("failures", Self::Failures),
        ("off", Self::Off),
    ];
}

impl Choice for envelope::Format {
    const NAMES: &'static [(&'static str, Self)] =
        &[("envelope", Self::Envelope), ("payload", Self::Payload)];
}

/// The value called `name`.
pub(super) fn by_name<T: Choice>(name: &str) -> Result<T, Fault> {
    T::NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names = || T::NAMES.iter().map(|(known, _)| *known);
            let all = names().collect::<Vec<_>>().join(", ");
            let remedy = match nearest(name, names()) {
                Some(near) => format!("did you mean {near:?}? Known are {all}"),
                None => format!("use one of {all}"),
            };
            Fault::new(format!("unknown value {}", quoted(name)), remedy)
        })
}

/// The name of `value`.
pub(super) fn name_of<T: Choice>(value: T) -> &'static str {
    T::NAMES
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(name, _)| name)
}

/// A place for a choice, whichever its type, and whether or not it may be left open.
pub(super) trait Chosen {
    fn choose(&mut self, name: &str) -> Result<(), Fault>;
    fn name(&self) -> Option<&'static str>;
    fn names(&self) -> Vec<&'static str>;
}

impl<T: Choice> Chosen for T {
    fn choose(&mut self, name: &str) -> Result<(), Fault> {
        *self = by_name(name)?;
        Ok(())
    }

    fn name(&self) -> Option<&'static str> {
        Some(name_of(*self))
    }

    fn names(&self) -> Vec<&'static str> {
        T::NAMES.iter().map(|(name, _)| *name).collect()
    }
}

impl Chosen for Option<SslMode> {
    fn choose(&mut self, name: &str) -> Result<(), Fault> {
        *self = Some(super::connection_url::read_sslmode(name)?);
        Ok(())
    }

    fn name(&self) -> Option<&'static str> {
        self.map(name_of)
    }

    fn names(&self) -> Vec<&'static str> {
        SslMode::NAMES.iter().map(|(name, _)| *name).collect()
    }
}

macro_rules! show_by_name {
    ($($choice:ty),*) => {$(
        impl std::fmt::Display for $choice {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(name_of(*self))
            }
        }
    )*};
}
show_by_name!(Mode, SinkKind, LogFormat, SslMode);
