//! The lane of at-least-once mode: one idempotent producer, several windows in flight.

use delivery::WindowId;
use envelope::RecordBatch;

use super::client::Client;
use super::lane::{Command, LaneEnd, Report};
use super::outbound::Outbound;
use super::{Bug, Context};
use crate::broker::Refusal;
use crate::task::pause;
use crate::world::Life;

/// The lane's thread. Its records never time out: one that did would leave a gap.
pub(super) async fn run(context: Context, mut client: Client, lane: LaneEnd) {
    let mut out = Outbound::default();
    let mut pending: Vec<(WindowId, RecordBatch)> = Vec::new();
    loop {
        pause().await;
        match lane.take() {
            Some(Command::Produce { window, batch, .. }) => {
                client.queue(&batch, &mut out);
                pending.push((window, batch));
            }
            // Only a transactional lane is asked for these.
            Some(Command::Commit { .. } | Command::Record { .. }) => {}
            None if is_over(&context, &lane, &out) => return,
            None => {}
        }
        if !out.is_empty() {
            if !lane.sends() {
                return;
            }
            match client.send_some(&mut out) {
                Ok(()) => {}
                Err(Refusal::Rejected) if context.has(Bug::DropsFailedWindows) => {
                    out = Outbound::default();
                }
                Err(Refusal::Unavailable | Refusal::Retriable) => {
                    if context.with(|world| world.dice.one_in(20)) {
                        lane.report(Report::Trouble);
                    }
                }
                Err(refusal) => {
                    let events = client.take_named();
                    return lane.report(Report::refused(refusal, events, &context));
                }
            }
        }
        if out.is_empty() {
            for (window, batch) in pending.drain(..) {
                lane.report(Report::Acknowledged { window, batch });
            }
            lane.rest();
        }
    }
}

/// Nobody waits any more, and what had left has arrived.
fn is_over(context: &Context, lane: &LaneEnd, out: &Outbound) -> bool {
    match lane.life() {
        Life::Wanted => false,
        Life::Abandoned => out.is_empty() || context.with(|world| world.dice.one_in(4)),
        Life::Dead(_) => out.is_empty(),
    }
}
