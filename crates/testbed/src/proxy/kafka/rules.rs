use std::collections::HashMap;
use std::time::Duration;

use crate::proxy::kafka::Api;

/// What is done to a request or to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The answer is dropped and the connection says nothing more to the client.
    SwallowResponse,
    /// The connection is closed in place of the answer.
    CutAfterRequest,
    /// The connection is closed in place of forwarding the request.
    CutBeforeRequest,
    /// The request waits: so long, or until released.
    HoldRequest(Option<Duration>),
    /// The request waits until released; the client loses the connection at once.
    StrandRequest,
}

/// When an action is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Request,
    Response,
}

impl Action {
    fn moment(self) -> Moment {
        match self {
            Action::SwallowResponse | Action::CutAfterRequest => Moment::Response,
            Action::CutBeforeRequest | Action::HoldRequest(_) | Action::StrandRequest => {
                Moment::Request
            }
        }
    }
}

#[derive(Debug)]
struct Rule {
    api: Api,
    action: Action,
    left: u32,
}

/// What shall be disturbed on all connections of a proxy, and what was.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    seen: HashMap<Api, u64>,
    disturbed: HashMap<Api, u64>,
    errors: HashMap<Api, Vec<i16>>,
    /// Requests that are held back now.
    pub holding: usize,
    /// How often everything held was released.
    pub releases: u64,
}

impl Rules {
    pub fn add(&mut self, api: Api, action: Action, count: u32) {
        if count > 0 {
            self.rules.push(Rule {
                api,
                action,
                left: count,
            });
        }
    }

    pub fn saw(&mut self, api: Api) {
        *self.seen.entry(api).or_default() += 1;
    }

    /// What to do now: the oldest rule that fits is used up by one.
    pub fn take(&mut self, api: Api, moment: Moment) -> Option<Action> {
        let fits = |rule: &Rule| rule.api == api && rule.action.moment() == moment;
        let found = self.rules.iter().position(fits)?;
        let rule = self.rules.get_mut(found)?;
        let action = rule.action;
        rule.left -= 1;
        if rule.left == 0 {
            self.rules.remove(found);
        }
        *self.disturbed.entry(api).or_default() += 1;
        Some(action)
    }

    /// Notes what the server answered to a disturbed request.
    pub fn withheld(&mut self, api: Api, error: Option<i16>) {
        self.errors.entry(api).or_default().extend(error);
    }

    /// Ends all rules; what was seen stays.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.releases += 1;
    }

    pub fn seen(&self, api: Api) -> u64 {
        self.seen.get(&api).copied().unwrap_or_default()
    }

    pub fn disturbed(&self, api: Api) -> u64 {
        self.disturbed.get(&api).copied().unwrap_or_default()
    }

    pub fn errors(&self, api: Api) -> Vec<i16> {
        self.errors.get(&api).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_used_up_by_its_kind_at_its_moment() {
        let mut rules = Rules::default();
        rules.add(Api::END_TXN, Action::SwallowResponse, 2);
        rules.add(Api::END_TXN, Action::CutBeforeRequest, 1);
        let cut = Some(Action::CutBeforeRequest);
        assert_eq!(rules.take(Api::END_TXN, Moment::Request), cut);
        assert_eq!(rules.take(Api::END_TXN, Moment::Request), None);
        assert_eq!(rules.take(Api::PRODUCE, Moment::Response), None);
        for expected in [
            Some(Action::SwallowResponse),
            Some(Action::SwallowResponse),
            None,
        ] {
            assert_eq!(rules.take(Api::END_TXN, Moment::Response), expected);
        }
        assert_eq!(rules.disturbed(Api::END_TXN), 3);
        assert_eq!(rules.disturbed(Api::PRODUCE), 0);
    }
}
