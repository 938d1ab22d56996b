//! The two text formats of the figures: OpenMetrics, and the older one of Prometheus.

use std::{collections::HashMap, fmt::Write as _};

use super::series::Examples;

/// A text format for the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// Version 0.0.4 of the format of Prometheus.
    #[default]
    Plain,
}

impl Format {
    /// The one that whoever asks with this `accept` likes best. OpenMetrics has to be named: who takes anything gets what everybody
    /// can read.
    pub fn accepted<'v>(accept: impl IntoIterator<Item = &'v str>) -> Self {
        let (mut open, mut plain) = (0, 0);
        let ranges = accept.into_iter().flat_map(|value| value.split(','));
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let mut members = parts.filter_map(|part| part.split_once('='));
            let weight = members.find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
            let weight = weight.map_or(1000, |(_, text)| thousandths(text));
            if kind.eq_ignore_ascii_case("application/openmetrics-text") {
                open = weight.max(open);
            } else if kind.eq_ignore_ascii_case("text/plain") {
                plain = weight.max(plain);
            }
        }
        if open > 0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A weight; none for what is no number from 0 to 1.
fn thousandths(text: &str) -> u32 {
    let weight = text.trim().parse::<f32>().ok();
    let weight = weight.filter(|weight| (0.0..=1.0).contains(weight));
    weight.map_or(0, |weight| (weight * 1000.0).round() as u32)
}

/// OpenMetrics text, and the examples behind the buckets that they are of: for each of these families, of each of its rows in the
/// order of the text.
pub(super) fn with_examples(text: &str, families: &[(&'static str, Vec<Examples>)]) -> String {
    let mut left: HashMap<String, _> = families
        .iter()
        .map(|(name, rows)| {
            let texts: Vec<_> = rows.iter().flat_map(Examples::texts).collect();
            (format!("{name}_bucket"), texts.into_iter())
        })
        .collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(line);
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        if let Some(example) = left.get_mut(name).and_then(|it| it.next().flatten()) {
            // Writing to a string does not fail.
            let _ = write!(out, " {example}");
        }
        out.push('\n');
    }
    out
}

/// The same without what only OpenMetrics has. There a counter is named as its sample is.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let described = |line: &str, name: &str| {
            let (words, rest) = line.split_at_checked("# TYPE ".len())?;
            let known = words == "# TYPE " || words == "# HELP ";
            let rest = rest.strip_prefix(name).filter(|_| known)?;
            Some(format!("{words}{name}_total{rest}"))
        };
        let kind = if line.starts_with("# HELP ") {
            lines.peek().copied().unwrap_or_default()
        } else {
            line
        };
        let counter = kind.strip_prefix("# TYPE ");
        let counter = counter.and_then(|kind| kind.strip_suffix(" counter"));
        match counter.and_then(|name| described(line, name)) {
            Some(renamed) => out.push_str(&renamed),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_openmetrics_gets_it_unless_the_other_is_liked_better() {
        use Format::{OpenMetrics, Plain};
        // As Prometheus 2 and 3 ask.
        let two = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4,*/*;q=0.2";
        for (accept, format) in [
            (two, OpenMetrics),
            (three, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("APPLICATION/OpenMetrics-Text ; Q=1", OpenMetrics),
            ("text/plain, application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text;q=0", Plain),
            ("application/openmetrics-text;q=x", Plain),
            ("application/openmetrics-text;q=0.2, text/plain", Plain),
            ("text/plain", Plain),
            ("*/*", Plain),
            ("application/openmetrics-texts", Plain),
            ("", Plain),
        ] {
            assert_eq!(Format::accepted([accept]), format, "{accept}");
        }
        let two_lines = ["text/plain;q=0.1", "application/openmetrics-text;q=0.2"];
        assert_eq!(Format::accepted(two_lines), OpenMetrics);
        assert_eq!(Format::accepted([]), Plain);
    }

    #[test]
    fn a_counter_has_the_name_of_its_sample_where_the_format_is_plain() {
        let text = "# HELP a Things.\n# TYPE a counter\na_total{b=\"# TYPE a counter\"} 1\n# HELP c Things.\n# TYPE c gauge\n\
                    # UNIT c seconds\nc 2\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"# TYPE a counter\"} 1\n\
                        # HELP c Things.\n# TYPE c gauge\nc 2\n";
        assert_eq!(plain(text), expected);
    }
}
