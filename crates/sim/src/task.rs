//! Tasks whose every pause is a place where the process can die.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A piece of a simulated process. Killing the process drops it.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Lets anything else happen first: other tasks, the servers, time, a crash.
///
/// Whatever a task does between two pauses happens at once, so there is one before each access to
/// a server.
pub fn pause() -> impl Future<Output = ()> {
    let mut paused = false;
    poll_fn(move |_| {
        if paused {
            return Poll::Ready(());
        }
        paused = true;
        Poll::Pending
    })
}

/// Runs a task up to its next pause; true once it has ended.
pub fn run_to_pause(task: &mut Task) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    task.as_mut().poll(&mut context).is_ready()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_task_runs_from_pause_to_pause() {
        let steps = Rc::new(Cell::new(0));
        let seen = Rc::clone(&steps);
        let mut task: Task = Box::pin(async move {
            for _ in 0..2 {
                steps.set(steps.get() + 1);
                pause().await;
            }
        });
        assert!(!run_to_pause(&mut task));
        assert_eq!(seen.get(), 1);
        assert!(!run_to_pause(&mut task));
        assert_eq!(seen.get(), 2);
        assert!(run_to_pause(&mut task));
    }
}
