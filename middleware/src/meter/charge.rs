//! What an answer is charged with: the decision, without bodies and clocks.

use crate::{
    dialect::Usage,
    record::{Charge, Source},
};

/// How an answer came to its end, as far as its charge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The provider ended it in good order.
    Clean,
    /// It broke, or nobody wanted the rest.
    Cut,
}

/// All that the charge depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) usage: Usage,
    /// A report has come, and it is the provider's last word.
    pub(super) is_final: bool,
    /// The provider marks no end: its last report counts if the transport ended well.
    pub(super) unmarked: bool,
    /// A field of a report was no count.
    pub(super) flawed: bool,
    /// What is asked here generates text.
    pub(super) generates: bool,
    /// The client had left.
    pub(super) gone: bool,
    pub(super) end: End,
}

/// Estimates of what was sent and of what was delivered; asked for only where they are needed.
pub(super) trait Estimate {
    fn prompt(&self) -> u64;
    fn completion(&self) -> u64;
}

/// Never below what was reported, never zero for text that was delivered.
pub(super) fn charge(facts: &Facts, estimate: &impl Estimate) -> Charge {
    let usage = facts.usage;
    let reported = usage != Usage::default();
    let known = facts.is_final || facts.unmarked && facts.end == End::Clean;
    let flawed = facts.flawed && (usage.completion.is_none() || usage.prompt.is_none());
    if reported && known && !flawed {
        let mut charge = as_reported(&usage, facts.gone);
        charge.completion = usage.completion.unwrap_or_else(|| estimate.completion());
        return charge;
    }
    let completion = estimate.completion();
    if !(facts.generates || reported || completion > 0) {
        return Charge::default();
    }
    let prompt = usage.prompt.unwrap_or_else(|| estimate.prompt());
    let completion = usage.completion.unwrap_or(0).max(completion);
    Charge {
        prompt,
        completion,
        source: if prompt == 0 && completion == 0 {
            Source::None
        } else {
            Source::Estimated
        },
    }
}

/// The provider's last word, as it is; what it leaves out is nothing.
pub(super) fn as_reported(usage: &Usage, gone: bool) -> Charge {
    Charge {
        prompt: usage.prompt.unwrap_or(0),
        completion: usage.completion.unwrap_or(0),
        source: if gone {
            Source::Drained
        } else {
            Source::Provider
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            usage: Usage::default(),
            is_final: false,
            unmarked: false,
            flawed: false,
            generates: true,
            gone: false,
            end: End::Clean,
        }
    }

    /// Of what was sent, and of what was delivered.
    struct Guess(u64, u64);

    impl Estimate for Guess {
        fn prompt(&self) -> u64 {
            self.0
        }

        fn completion(&self) -> u64 {
            self.1
        }
    }

    fn usage(prompt: Option<u64>, completion: Option<u64>) -> Usage {
        Usage {
            prompt,
            completion,
            ..Usage::default()
        }
    }

    fn told(facts: &Facts) -> (u64, u64, Source) {
        told_with(facts, &Guess(12, 34))
    }

    fn told_with(facts: &Facts, guess: &Guess) -> (u64, u64, Source) {
        let Charge {
            prompt,
            completion,
            source,
        } = charge(facts, guess);
        (prompt, completion, source)
    }

    #[test]
    fn the_last_word_of_the_provider_is_taken_as_it_is() {
        let mut facts = Facts {
            usage: usage(Some(1), Some(2)),
            is_final: true,
            end: End::Cut,
            ..facts()
        };
        assert_eq!(told(&facts), (1, 2, Source::Provider));
        facts.gone = true;
        assert_eq!(told(&facts), (1, 2, Source::Drained));
    }

    #[test]
    fn a_report_on_the_way_is_the_least() {
        let mut facts = Facts {
            usage: usage(Some(5), Some(50)),
            ..facts()
        };
        assert_eq!(told(&facts), (5, 50, Source::Estimated));
        facts.usage.completion = Some(3);
        assert_eq!(told(&facts), (5, 34, Source::Estimated));
        facts.unmarked = true;
        assert_eq!(told(&facts), (5, 3, Source::Provider));
        facts.end = End::Cut;
        assert_eq!(told(&facts), (5, 34, Source::Estimated));
    }

    #[test]
    fn without_a_report_text_is_charged_by_estimate() {
        assert_eq!(told(&facts()), (12, 34, Source::Estimated));
        let silent = Facts {
            generates: false,
            ..facts()
        };
        assert_eq!(told_with(&silent, &Guess(12, 0)), (0, 0, Source::None));
    }

    #[test]
    fn a_report_that_cannot_be_is_no_report() {
        let flawed = Facts {
            usage: usage(Some(5), None),
            is_final: true,
            flawed: true,
            ..facts()
        };
        assert_eq!(told(&flawed), (5, 34, Source::Estimated));
        let corrected = Facts {
            usage: usage(Some(5), Some(9)),
            ..flawed
        };
        assert_eq!(told(&corrected), (5, 9, Source::Provider));
    }

    #[test]
    fn what_a_final_report_leaves_out_is_filled_in() {
        let embeddings = Facts {
            usage: usage(Some(7), None),
            is_final: true,
            generates: false,
            ..facts()
        };
        let told = told_with(&embeddings, &Guess(12, 0));
        assert_eq!(told, (7, 0, Source::Provider));
    }
}
