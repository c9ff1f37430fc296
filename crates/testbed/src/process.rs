//! Server processes that cannot outlive this one.
//!
//! Each child gets a parent-death signal through `setpriv --pdeathsig` (prctl(2),
//! `PR_SET_PDEATHSIG`). The kernel sends it when the *thread* that forked the child ends, so one
//! thread that lives as long as the process forks them all. Children have a process group of
//! their own: a Ctrl-C is for this process, which then stops them in its own order. A stopped
//! postmaster dies with its parent, too: its group is then an orphaned one with a stopped member,
//! which the kernel continues (setpgid(2)); after 5 s it kills the backends that are still
//! stopped (test `paused_servers_die_with_a_killed_parent`).

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::account::Account;
use crate::error::{Error, Result};
use crate::log::LogPart;
use crate::wait::wait_for;
use crate::{port, procfs, tool};

/// How long a killed or stopped process may take to show it.
const SIGNAL_TAKES: Duration = Duration::from_secs(10);

/// What the kernel does to a server whose parent has died.
#[derive(Debug, Clone, Copy)]
pub(crate) enum OnParentDeath {
    /// SIGQUIT: Postgres's immediate shutdown, so that the postmaster ends its backends, too.
    Quit,
    /// SIGKILL.
    Kill,
}

/// A command that runs `program` as `account` and ends it with this process.
pub(crate) fn guarded(
    program: &Path,
    account: Option<&Account>,
    on_parent_death: OnParentDeath,
) -> Result<Command> {
    let mut command = Command::new(tool::find("setpriv")?);
    command.arg("--pdeathsig").arg(match on_parent_death {
        OnParentDeath::Quit => "QUIT",
        OnParentDeath::Kill => "KILL",
    });
    if let Some(account) = account {
        command.arg(format!("--reuid={}", account.uid));
        command.arg(format!("--regid={}", account.gid));
        command.arg("--clear-groups");
    }
    command
        .arg("--")
        .arg(program)
        .current_dir("/")
        .stdin(Stdio::null());
    Ok(command)
}

/// A child and its exit status once it has one; killed with all its descendants on drop.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pid: u32,
    child: Mutex<Child>,
}

impl ServerProcess {
    pub fn spawn(command: Command) -> Result<ServerProcess> {
        let child = spawn_on_lasting_thread(command)?;
        Ok(ServerProcess {
            pid: child.id(),
            child: Mutex::new(child),
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&self, within: Duration) -> Option<ExitStatus> {
        wait_for(within, || self.exit_status())
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        let mut child = lock(&self.child);
        // Not reaped yet, so the number cannot belong to anybody else.
        if let Ok(None) = child.try_wait() {
            send(self.pid, signal);
        }
    }

    /// SIGKILL to the process and all its descendants, then waits until none is left.
    ///
    /// The root is stopped first, so that it can neither fork nor react to a child's death.
    pub fn kill_tree(&self) -> bool {
        self.signal(Signal::STOP);
        wait_for(SIGNAL_TAKES, || {
            (procfs::is_stopped(self.pid) || self.has_ended()).then_some(())
        });
        let children = procfs::descendants(self.pid);
        self.signal(Signal::KILL);
        children.iter().for_each(|pid| send(*pid, Signal::KILL));
        let all_gone = || self.has_ended() && children.iter().all(|pid| procfs::is_gone(*pid));
        wait_for(SIGNAL_TAKES, || all_gone().then_some(())).is_some()
    }

    /// SIGSTOP to the process and all its descendants; false if one still runs.
    pub fn pause_tree(&self) -> bool {
        self.signal(Signal::STOP);
        wait_for(SIGNAL_TAKES, || {
            (procfs::is_stopped(self.pid) || self.has_ended()).then_some(())
        });
        let mut tree = procfs::descendants(self.pid);
        tree.iter().for_each(|pid| send(*pid, Signal::STOP));
        tree.push(self.pid);
        let stopped = |pid: &u32| procfs::is_stopped(*pid) || procfs::is_gone(*pid);
        wait_for(SIGNAL_TAKES, || tree.iter().all(stopped).then_some(())).is_some()
    }

    /// SIGCONT to the process and all its descendants.
    pub fn resume_tree(&self) {
        procfs::descendants(self.pid)
            .iter()
            .for_each(|pid| send(*pid, Signal::CONT));
        self.signal(Signal::CONT);
    }

    /// The error that its early end is.
    pub fn early_end(&self, name: String, status: ExitStatus, log: &LogPart) -> Error {
        match log.contains(port::CLASH) {
            true => Error::PortTaken { server: name },
            false => Error::Failed {
                program: name,
                status: status.to_string(),
                tail: log.tail(),
            },
        }
    }

    /// The error when a signal has had no effect in time.
    pub fn unmoved(&self, name: String, signal: &str, log: &Path) -> Error {
        let what = format!("{signal} to {name}");
        Error::Timeout {
            what,
            within: SIGNAL_TAKES,
            tail: tool::log_tail(log),
        }
    }

    fn has_ended(&self) -> bool {
        self.exit_status().is_some()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.kill_tree();
        }
    }
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Fails only when the process has just ended, which every caller waits for anyway.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Order {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

fn spawn_on_lasting_thread(mut command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    command.process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for mut order in inbox {
                let _ = order.reply.send(order.command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, answer) = mpsc::channel();
    let sent = lock(spawner).send(Order { command, reply });
    sent.map_err(io::Error::other)
        .and_then(|()| answer.recv().map_err(io::Error::other))
        .flatten()
        .map_err(|source| Error::Spawn { program, source })
}
