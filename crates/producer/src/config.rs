//! Properties → a librdkafka configuration.

use std::ffi::CString;

use crate::ffi;

/// The client could not be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// librdkafka refuses a property.
    #[error("kafka property {name:?} is refused: {reason}")]
    Property {
        /// The property.
        name: String,
        /// librdkafka's reason.
        reason: String,
    },
    /// librdkafka refuses the combination, or is out of resources.
    #[error("kafka client could not be created: {0}")]
    Client(String),
}

pub(crate) fn build<'a>(
    properties: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<ffi::Conf, CreateError> {
    let mut conf = ffi::Conf::new();
    conf.set(c"log.queue", c"true")
        .map_err(CreateError::Client)?;
    for (name, value) in properties {
        let refused = |reason: String| CreateError::Property {
            name: name.to_owned(),
            reason,
        };
        let c_name = CString::new(name).map_err(|_| refused("it holds a NUL byte".into()))?;
        let c_value = CString::new(value).map_err(|_| refused("it holds a NUL byte".into()))?;
        conf.set(&c_name, &c_value).map_err(refused)?;
    }
    Ok(conf)
}
