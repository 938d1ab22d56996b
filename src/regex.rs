//! Patterns of the configuration: matched in linear time, compiled within a bound.

use regex_automata::{
    nfa::thompson::{
        self,
        pikevm::{Cache, PikeVM},
    },
    util::pool::Pool,
};

/// A pattern that finds its places in linear time. It has no back references and looks around nothing but words and lines.
#[derive(Debug)]
pub(crate) struct Regex {
    vm: std::sync::Arc<PikeVM>,
    caches: Pool<Cache, Make>,
}

type Make = Box<dyn Fn() -> Cache + Send + Sync>;

impl Regex {
    /// Compiles a pattern; the error says what is wrong, in words that repeat nothing of it.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let compiler = thompson::Config::new().nfa_size_limit(Some(LARGEST));
        let vm = PikeVM::builder().thompson(compiler).build(source);
        let vm = vm.map_err(|error| match error.size_limit() {
            Some(_) => "it is too large once it is compiled".to_owned(),
            None => "its syntax is not that of regular expressions; there are no back references"
                .to_owned(),
        })?;
        let vm = std::sync::Arc::new(vm);
        let make = vm.clone();
        Ok(Self {
            vm,
            caches: Pool::new(Box::new(move || make.create_cache())),
        })
    }

    /// Whether some place in the text fits.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.vm.is_match(&mut self.caches.get(), text)
    }
}

/// Bytes of a compiled pattern.
const LARGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_for_anywhere_unless_it_says_where() {
        let regex = |source| Regex::new(source).unwrap();
        assert!(regex("b+").is_match("aabba") && !regex("^b").is_match("aabba"));
        assert!(regex("^h.$").is_match("hi") && regex("(?i)PRICE").is_match("the price"));
    }

    /// Row O03: no pattern of a file costs more than time in proportion, or memory without bound.
    #[test]
    fn what_is_no_pattern_or_too_large_is_refused_and_none_takes_for_ever() {
        for bad in ["(", "a{2,1}", "(a)\\1", "[z-a]"] {
            assert!(Regex::new(bad).unwrap_err().contains("syntax"), "{bad}");
        }
        assert!(Regex::new("(a{1000}){1000}").unwrap_err().contains("large"));
        let slow = Regex::new("(a*)*b").unwrap();
        assert!(!slow.is_match(&"a".repeat(20_000)));
    }
}
