//! How far estimates are off.

use super::*;
use tollgate_testing::{recordings, splits::Random};

/// One recording cut once: estimated and true output tokens up to there.
struct Cut {
    name: String,
    estimate: u64,
    truth: f64,
    /// It calls tools, whose frame is tokens that nobody sees.
    calls: bool,
}

impl Cut {
    fn error(&self) -> f64 {
        (self.estimate as f64 - self.truth).abs() / self.truth
    }
}

/// What a provider counted is spread over its text: the true figure of a cut is its share of that.
async fn cuts() -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut random = Random::new(4);
    for recording in recordings::all() {
        let usage = &recording.expected["usage"];
        let Some(completion) = usage["completion"].as_u64() else {
            continue;
        };
        // Thoughts that are counted and not shown have no place in the text.
        let hidden = usage["reasoning"].as_u64().unwrap_or(0) > 0;
        if !recording.stream || !recording.known || hidden || completion < 20 {
            continue;
        }
        let case = Case::of(recording);
        let seen = async |end: usize| {
            let body = Script::data(&recording.body[..end], &Split::Whole).then(Item::Error);
            let (response, record) = case.answer(body).await;
            collect(response.into_body()).await;
            metered(&record)
        };
        let whole = bytes(recording, recording.body.len());
        for _ in 0..20 {
            let end = random.below(recording.body.len());
            let share = bytes(recording, end) as f64 / whole as f64;
            let truth = completion as f64 * share;
            let told = seen(end).await;
            if truth < 10.0 || told.charge.source != Source::Estimated {
                continue;
            }
            // What the provider had said by then is not estimated.
            let said = told.usage.and_then(|usage| usage.completion).unwrap_or(0);
            if said <= 8 {
                cuts.push(Cut {
                    name: recording.name.clone(),
                    estimate: told.charge.completion,
                    truth,
                    calls: recording.expected["tool_calls"][0].is_object(),
                });
            }
        }
    }
    cuts
}

/// Bytes of generated text up to a place, told by the reader.
fn bytes(recording: &Recording, end: usize) -> u64 {
    let case = Case::of(recording);
    let record = case.record();
    let intent = case.intent();
    let surface = intent
        .as_ref()
        .map(Intent::surface)
        .or_else(|| record.surface());
    let mut headers = HeaderMap::new();
    for (name, value) in &recording.headers {
        headers.append(
            http::HeaderName::try_from(name).unwrap(),
            value.parse().unwrap(),
        );
    }
    let framing = dialect::framing_of(surface, true, case.status, &headers);
    let mut answer = crate::meter::answer::Answer::new(surface, framing, true);
    answer.feed(&recording.body[..end], false);
    answer.found().units
}

#[tokio::test(start_paused = true)]
async fn estimates_of_recordings_cut_anywhere_are_near_the_truth() {
    let mut cuts = cuts().await;
    cuts.sort_by(|a, b| a.error().total_cmp(&b.error()));
    let of = |title: &str, wanted: &dyn Fn(&Cut) -> bool| {
        let errors: Vec<f64> = cuts
            .iter()
            .filter(|cut| wanted(cut))
            .map(Cut::error)
            .collect();
        let at = |share: f64| errors[((errors.len() - 1) as f64 * share) as usize] * 100.0;
        let (median, p95) = (at(0.5), at(0.95));
        println!(
            "{title}: {} cuts, error {median:.1} % median, {p95:.1} % p95",
            errors.len()
        );
        (median, p95)
    };
    let all = of("all", &|_| true);
    let texts = of("without tool calls", &|cut| !cut.calls);
    let mut names: Vec<_> = cuts.iter().map(|cut| &cut.name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let of: Vec<_> = cuts.iter().filter(|cut| cut.name == *name).collect();
        let ratios = of.iter().map(|cut| cut.estimate as f64 / cut.truth);
        println!(
            "{:6.2} of the truth: {name}",
            ratios.sum::<f64>() / of.len() as f64
        );
    }
    assert!(cuts.len() > 30, "{}", cuts.len());
    // The repository's own recordings are few, and chosen for being odd.
    let (median, p95) = if cuts.len() > 300 {
        (10.0, 40.0)
    } else {
        (25.0, 50.0)
    };
    assert!(all.0 < 1.5 * median && all.1 < 90.0, "{all:?}");
    assert!(texts.0 < median && texts.1 < p95, "{texts:?}");
}
