//! Records on their way to their partitions.

use std::collections::VecDeque;

use crate::broker::{Message, PartitionId};

struct Queue {
    partition: PartitionId,
    messages: VecDeque<Message>,
    /// So many of the first have been sent, and nothing was heard of them: what is sent next must
    /// be the same.
    unanswered: Option<usize>,
}

/// Records of one produce request.
pub(super) struct Request {
    pub partition: PartitionId,
    pub messages: Vec<Message>,
}

/// Records on their way: in order within a partition, in no order between partitions.
#[derive(Default)]
pub(super) struct Outbound(Vec<Queue>);

impl Outbound {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, partition: PartitionId, message: Message) {
        match self.queue(partition) {
            Some(queue) => queue.messages.push_back(message),
            None => self.0.push(Queue {
                partition,
                messages: VecDeque::from([message]),
                unanswered: None,
            }),
        }
    }

    /// The first few records of some partition; `choice` is any number.
    pub fn request(&self, choice: usize, most: usize) -> Option<Request> {
        let queue = self.0.get(choice % self.0.len().max(1))?;
        let count = queue.unanswered.unwrap_or(most);
        Some(Request {
            partition: queue.partition,
            messages: queue.messages.iter().take(count).cloned().collect(),
        })
    }

    /// A copy of everything.
    pub fn copy(&self) -> Vec<(PartitionId, Message)> {
        let copied = |queue: &Queue| {
            let partition = queue.partition;
            let messages = queue.messages.iter().cloned();
            messages.map(move |m| (partition, m)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(copied).collect()
    }

    /// They have been sent, and no answer came.
    pub fn unanswered(&mut self, partition: PartitionId, count: usize) {
        if let Some(queue) = self.queue(partition) {
            queue.unanswered = Some(count);
        }
    }

    /// They have been taken.
    pub fn taken(&mut self, partition: PartitionId, count: usize) {
        if let Some(queue) = self.queue(partition) {
            queue.messages.drain(..count.min(queue.messages.len()));
            queue.unanswered = None;
        }
        self.0.retain(|queue| !queue.messages.is_empty());
    }

    /// Lets later records go first: what a client must not do.
    pub fn postpone(&mut self, partition: PartitionId, count: usize) {
        if let Some(queue) = self.queue(partition) {
            let count = count.min(queue.messages.len());
            queue.messages.rotate_left(count);
            queue.unanswered = None;
        }
    }

    /// Takes out about half of the records, of those that come first.
    pub fn first_half(&mut self) -> Self {
        let mut first = Self::default();
        for queue in &mut self.0 {
            let half = queue.messages.len().div_ceil(2);
            first.0.push(Queue {
                partition: queue.partition,
                messages: queue.messages.drain(..half).collect(),
                unanswered: None,
            });
        }
        self.0.retain(|queue| !queue.messages.is_empty());
        first
    }

    fn queue(&mut self, partition: PartitionId) -> Option<&mut Queue> {
        self.0.iter_mut().find(|queue| queue.partition == partition)
    }
}
