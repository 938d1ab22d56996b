use super::*;
use crate::{
    dialect::{
        Framing, Judge,
        eventstream::{Messages, invoked},
        pieces::{Elements, Lines},
        recordings::{self, Recording},
    },
    sse::{CAP, Scanner},
};

fn merged(recording: &Recording) -> Usage {
    let mut merged = Usage::default();
    let mut take = |data: &[u8]| {
        if let Some(found) = Value::parse(data).and_then(|event| usage(&recording.surface, event)) {
            merged.merge(found);
        }
    };
    let mut judge = Judge::new(Some(&recording.surface), recording.framing(), 1, false);
    judge.feed(&recording.body);
    judge.finish();
    match judge.framing() {
        Framing::Sse => {
            let mut scanner = Scanner::new(CAP);
            scanner.feed(&recording.body, |event| take(event.data));
            scanner.finish(|event| take(event.data));
        }
        Framing::Lines => {
            let mut lines = Lines::default();
            lines.feed(&recording.body, |line| take(line.data));
            lines.finish(|line| take(line.data));
        }
        Framing::Array => Elements::default().feed(&recording.body, |element| take(element.data)),
        Framing::EventStream => {
            Messages::default().feed(&recording.body, |message| {
                let inner = invoked(message.payload);
                take(inner.as_deref().unwrap_or(message.payload));
            });
        }
        Framing::Document | Framing::Opaque => take(&recording.body),
    }
    merged
}

#[test]
fn every_recording_reports_what_its_provider_said() {
    for recording in recordings::all() {
        let found = merged(&recording);
        let told = |field: &str| recording.expected["usage"][field].as_u64();
        let expected = Usage {
            prompt: told("prompt"),
            completion: told("completion"),
            total: told("total"),
            cached: told("cached"),
            cache_write: told("cache_write"),
            reasoning: told("reasoning"),
        };
        assert_eq!(found, expected, "{}", recording.name);
    }
}

#[test]
fn the_last_report_of_each_field_wins() {
    let mut merged = Usage {
        prompt: Some(9),
        completion: Some(1),
        cached: Some(3),
        ..Usage::default()
    };
    merged.merge(Usage {
        prompt: Some(4),
        completion: Some(7),
        ..Usage::default()
    });
    assert_eq!(
        merged,
        Usage {
            prompt: Some(4),
            completion: Some(7),
            cached: Some(3),
            ..Usage::default()
        }
    );
}
