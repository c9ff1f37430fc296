//! The connection to Postgres out of its URL and its separate keys.

use std::path::Path;
use std::time::Duration;

use super::connection_url::{ConnectionUrl, parse_host};
use super::draft::{PipelineDraft, Scope};
use super::error::{Fault, Faults};
use super::field::{Sources, secret_file};
use super::postgres::{Host, HostAddr, Login, Postgres, SslMode};
use super::secret::Secret;

const URL: &str = "postgres.url";

/// Joins what the URL says with the separate keys. Of two sources the later one wins; one source
/// that says the same thing twice is a fault.
pub(super) fn resolve(
    scope: &Scope<PipelineDraft>,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> Postgres {
    let draft = &scope.draft.postgres;
    let Some(url) = given_url(scope, faults) else {
        return Postgres::default();
    };
    let hosts = separate_hosts(scope, faults);
    let timeout = given_timeout(scope);
    let mut join = Join { scope, faults };
    let hosts = join.either("postgres.hosts", non_empty(url.hosts), hosts);
    let database = join.either("postgres.database", url.database, draft.database.clone());
    let user = join.either("postgres.user", url.user, draft.user.clone());
    let name = draft.application_name.clone();
    let application_name = join.either("postgres.application_name", url.application_name, name);
    let connect_timeout = join.either("postgres.connect_timeout", url.connect_timeout, timeout);
    let password = join.password(url.password, sources);
    let write_back = join.write_back();
    let sslmode = join.either("postgres.sslmode", url.sslmode, draft.sslmode);
    let (rootcert, cert, key) = (&draft.sslrootcert, &draft.sslcert, &draft.sslkey);
    let sslrootcert = join.either("postgres.sslrootcert", url.sslrootcert, rootcert.clone());
    let sslcert = join.either("postgres.sslcert", url.sslcert, cert.clone());
    let sslkey = join.either("postgres.sslkey", url.sslkey, key.clone());
    let default = Postgres::default();
    // Defaults stand in only where a fault has been reported.
    let hosts = join
        .required("postgres.hosts", "server", hosts)
        .unwrap_or(default.hosts);
    let database = join
        .required("postgres.database", "database", database)
        .unwrap_or(default.database);
    let postgres = Postgres {
        sslmode: sslmode.unwrap_or_else(|| default_sslmode(&hosts)),
        hosts,
        user: user.unwrap_or(default.user),
        password,
        write_back,
        database,
        application_name: application_name.unwrap_or(default.application_name),
        sslrootcert,
        sslcert,
        sslkey,
        slot: draft.slot.clone(),
        publication: draft.publication.clone(),
        failover_slot: draft.failover_slot,
        connect_timeout: connect_timeout.unwrap_or(draft.connect_timeout),
        wal_sender_timeout: draft.wal_sender_timeout,
    };
    check_tls(&postgres, scope, faults);
    postgres
}

/// How to reach a database by its URL alone; the password may be that of `PGPASSWORD`. For commands that
/// look at other databases than the pipeline's.
///
/// # Errors
/// A sentence that says what is wrong and what to write, without the password.
pub fn database_by_url(text: &str, pgpassword: Option<String>) -> Result<Postgres, String> {
    let told = |fault: Fault| format!("{}: {}", fault.problem, fault.remedy);
    let url = ConnectionUrl::parse(text).map_err(told)?;
    let (Some(hosts), Some(database)) = (non_empty(url.hosts), url.database) else {
        return Err(
            "names no server or no database: write postgres://user@host:5432/database".into(),
        );
    };
    let given = pgpassword.filter(|password| !password.is_empty());
    let default = Postgres::default();
    Ok(Postgres {
        sslmode: url.sslmode.unwrap_or_else(|| default_sslmode(&hosts)),
        hosts,
        user: url.user.unwrap_or(default.user),
        password: url.password.or_else(|| given.map(Secret::new)),
        database,
        application_name: url.application_name.unwrap_or(default.application_name),
        sslrootcert: url.sslrootcert,
        sslcert: url.sslcert,
        sslkey: url.sslkey,
        connect_timeout: url.connect_timeout.unwrap_or(default.connect_timeout),
        ..Postgres::default()
    })
}

/// What the URL says, nothing where there is none; `None` with the reason reported where it cannot
/// be read, or where nothing says how to connect.
fn given_url(scope: &Scope<PipelineDraft>, faults: &mut Faults) -> Option<ConnectionUrl> {
    let any_given = ["postgres.hosts", "postgres.database"]
        .iter()
        .any(|path| scope.is_given(path));
    let url = match &scope.draft.postgres.url {
        Some(url) => ConnectionUrl::parse(url.expose()),
        None if scope.is_given(URL) => return None,
        None if any_given => Ok(ConnectionUrl::default()),
        None => Err(Fault::new(
            "no database is given",
            "give --postgres postgres://user@host:5432/database, OUTBOXD_POSTGRES_URL, or \
             postgres.url in the file",
        )),
    };
    url.map_err(|fault| scope.fault(scope.place(URL), URL, fault, faults))
        .ok()
}

struct Join<'a> {
    scope: &'a Scope<PipelineDraft>,
    faults: &'a mut Faults,
}

impl Join<'_> {
    fn either<T>(
        &mut self,
        path: &'static str,
        from_url: Option<T>,
        separate: Option<T>,
    ) -> Option<T> {
        let from_url = from_url.map(|value| (URL, value));
        let separate = separate.map(|value| (path, value));
        self.latest([from_url, separate]).map(|(_, value)| value)
    }

    /// The value of the latest source, with the path of its key.
    fn latest<T>(
        &mut self,
        candidates: impl IntoIterator<Item = Option<(&'static str, T)>>,
    ) -> Option<(&'static str, T)> {
        let rank = |path| self.scope.place(path).rank();
        let mut best: Option<(&'static str, T)> = None;
        let mut twice = None;
        for (path, value) in candidates.into_iter().flatten() {
            match &best {
                Some((before, _)) if rank(path) < rank(before) => continue,
                Some((before, _)) if rank(path) == rank(before) => twice = Some((*before, path)),
                Some(_) | None => twice = None,
            }
            best = Some((path, value));
        }
        if let Some((before, path)) = twice {
            let fault = Fault::new(
                format!("is given twice: here and in {before}"),
                "keep one of the two",
            );
            self.scope
                .fault(self.scope.place(path), path, fault, self.faults);
        }
        best
    }

    /// From the URL, the key or the file; else from `PGPASSWORD`, as in libpq.
    fn password(&mut self, from_url: Option<Secret>, sources: &Sources<'_>) -> Option<Secret> {
        const FILE: &str = "postgres.password_file";
        let draft = &self.scope.draft.postgres;
        let from_url = from_url.map(|password| (URL, Some(password)));
        let separate = draft
            .password
            .clone()
            .map(|p| ("postgres.password", Some(p)));
        let from_file = draft.password_file.as_ref().map(|_| (FILE, None));
        match self.latest([from_url, separate, from_file]) {
            Some((_, Some(password))) => Some(password),
            Some((path, None)) => draft
                .password_file
                .as_ref()
                .and_then(|file| self.read_password(path, file, sources)),
            None => sources
                .env
                .get("PGPASSWORD")
                .filter(|p| !p.is_empty())
                .map(Secret::new),
        }
    }

    /// A role of its own for what is written, if one is given.
    fn write_back(&mut self) -> Option<Login> {
        let draft = &self.scope.draft.postgres;
        match (&draft.write_back_user, &draft.write_back_password) {
            (Some(user), password) => Some(Login {
                user: user.clone(),
                password: password.clone(),
            }),
            (None, Some(_)) => {
                let path = "postgres.write_back_password";
                let fault = Fault::new(
                    "needs postgres.write_back_user",
                    "name the role that the password is for, or remove it",
                );
                self.scope
                    .fault(self.scope.place(path), path, fault, self.faults);
                None
            }
            (None, None) => None,
        }
    }

    fn read_password(
        &mut self,
        path: &'static str,
        file: &Path,
        sources: &Sources<'_>,
    ) -> Option<Secret> {
        match secret_file(file, sources) {
            Ok(password) => Some(password),
            Err(fault) => {
                self.scope
                    .fault(self.scope.place(path), path, fault, self.faults);
                None
            }
        }
    }

    /// Reports what neither the URL nor its key gives.
    fn required<T>(&mut self, path: &'static str, what: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.scope.is_given(path) {
            let key = path.trim_start_matches("postgres.");
            let fault = Fault::new(
                format!("no {what} is given"),
                format!("put it into the URL, or set {key}"),
            );
            let place = self.scope.place(URL);
            self.scope.fault(place, path, fault, self.faults);
        }
        value
    }
}

fn non_empty(hosts: Vec<Host>) -> Option<Vec<Host>> {
    (!hosts.is_empty()).then_some(hosts)
}

fn separate_hosts(scope: &Scope<PipelineDraft>, faults: &mut Faults) -> Option<Vec<Host>> {
    let path = "postgres.hosts";
    let hosts = scope
        .draft
        .postgres
        .hosts
        .iter()
        .map(|host| parse_host(host))
        .collect();
    match hosts {
        Ok(hosts) => non_empty(hosts),
        Err(fault) => {
            scope.fault(scope.place(path), path, fault, faults);
            None
        }
    }
}

/// The default timeout must not override the URL.
fn given_timeout(scope: &Scope<PipelineDraft>) -> Option<Duration> {
    let path = "postgres.connect_timeout";
    scope
        .is_given(path)
        .then_some(scope.draft.postgres.connect_timeout)
}

/// Plain text only where nobody can be in the middle.
fn default_sslmode(hosts: &[Host]) -> SslMode {
    if hosts.iter().all(|host| host.host.is_local()) {
        SslMode::Disable
    } else {
        SslMode::VerifyFull
    }
}

fn check_tls(postgres: &Postgres, scope: &Scope<PipelineDraft>, faults: &mut Faults) {
    let mut report = |path, fault| scope.fault(scope.place(path), path, fault, faults);
    match (&postgres.sslcert, &postgres.sslkey) {
        (Some(_), None) => report(
            "postgres.sslcert",
            Fault::new(
                "needs postgres.sslkey",
                "give the certificate's key, or remove it",
            ),
        ),
        (None, Some(_)) => report(
            "postgres.sslkey",
            Fault::new(
                "needs postgres.sslcert",
                "give the key's certificate, or remove it",
            ),
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if postgres.sslmode == SslMode::Require && postgres.sslrootcert.is_some() {
        report(
            "postgres.sslmode",
            Fault::new(
                "require does not check the server against postgres.sslrootcert",
                "use verify-full, or verify-ca where the name does not match",
            ),
        );
    }
    let only_unix = postgres
        .hosts
        .iter()
        .all(|host| matches!(host.host, HostAddr::Unix(_)));
    if only_unix && postgres.sslmode != SslMode::Disable {
        report(
            "postgres.sslmode",
            Fault::new(
                "there is no TLS over a Unix socket",
                "use disable, or remove it",
            ),
        );
    }
}
