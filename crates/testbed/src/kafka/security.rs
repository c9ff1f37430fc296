//! Listeners that ask who is there, and an authorizer behind them.

use std::fs;
use std::path::PathBuf;

use crate::authority::{Authority, Issued, Usage};
use crate::error::{OnFile, Result};
use crate::run_folder::RunFolder;

/// What the brokers of a cluster share: the authority, their certificate, and the users that are made
/// before the first start.
#[derive(Debug)]
pub(crate) struct Security {
    pub authority: Authority,
    /// Key and certificate in one file, as Kafka has it.
    keystore: PathBuf,
    users: Vec<(String, String)>,
    _folder: RunFolder,
}

impl Security {
    /// Makes the files, for users with their passwords.
    pub fn make(users: &[(String, String)]) -> Result<Security> {
        let folder = RunFolder::create("kafka-tls", false, None)?;
        let authority = Authority::make(&folder.path().join("tls"))?;
        let Issued { certificate, key } = authority.issue("server", "localhost", Usage::Server)?;
        let keystore = folder.path().join("keystore.pem");
        let read = |path: &PathBuf| fs::read_to_string(path).on("read", path);
        let both = format!("{}{}", read(&key)?, read(&certificate)?);
        fs::write(&keystore, both).on("write", &keystore)?;
        Ok(Security {
            authority,
            keystore,
            users: users.to_vec(),
            _folder: folder,
        })
    }

    /// Lines of `server.properties`. Who comes through the plain listener, brokers among them, may do
    /// everything; a client certificate's principal is its common name.
    pub fn properties(&self) -> Vec<(String, String)> {
        let authority = self.authority.certificate().display().to_string();
        let keystore = self.keystore.display().to_string();
        let login = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let all = [
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users", "User:ANONYMOUS"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", keystore.as_str()),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", authority.as_str()),
            ("listener.name.tls.ssl.client.auth", "required"),
            (
                "ssl.principal.mapping.rules",
                "RULE:^CN=([^,]*).*$/$1/,DEFAULT",
            ),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            ("listener.name.sasl.scram-sha-512.sasl.jaas.config", login),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Arguments of the tool that formats the log directory.
    pub fn format_arguments(&self) -> Vec<String> {
        let user = |(name, password): &(String, String)| {
            let credential = format!("SCRAM-SHA-512=[name={name},password={password}]");
            ["--add-scram".to_owned(), credential]
        };
        self.users.iter().flat_map(user).collect()
    }
}
