use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// An amount of money, in whole hundred-millionths of a cent (10⁻¹⁰ USD): what costs are rounded to in the request log, so that sums
/// of both are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

/// How long a sum of money counts up. Calendar time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
    /// Prepaid: it never begins anew.
    Ever,
}

/// So much money per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How much.
    pub amount: Usd,
    /// In which time.
    pub per: Period,
}

/// The numbers of the day, the week and the month that a moment lies in, counted from 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates([u32; 3]);

/// What was spent and what is reserved, in the present window of each [`Period`].
///
/// A window's number never goes back: a clock that does finds the window that was open before, and what was spent in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    at: Dates,
    windows: [Window; 4],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    spent: u64,
    reserved: u64,
}

// ===== impl Usd =====

impl Dates {
    /// Of each period the later window.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }
}

impl Usd {
    /// Units of one USD.
    const ONE: f64 = 1e10;
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many units of 10⁻¹⁰ USD.
    pub const fn from_units(units: u64) -> Self {
        Self(units)
    }

    /// In units of 10⁻¹⁰ USD.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// So many USD, to the nearest unit; what is no amount is nothing, what is too much is the most.
    pub fn new(usd: f64) -> Self {
        // A cast from a double ends at the bounds of the integer.
        Self((usd * Self::ONE).round() as u64)
    }

    /// So many USD, never less than said.
    pub(super) fn at_least(usd: f64) -> Self {
        // A sum of products of doubles may be a little over a whole number of units: that is no further unit.
        let units = usd * Self::ONE;
        Self((units - (units * 1e-15).min(0.5)).ceil() as u64)
    }

    /// In USD.
    pub fn usd(self) -> f64 {
        self.0 as f64 / Self::ONE
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// `12.5 USD`
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} USD", self.usd())
    }
}

// ===== impl Period =====

impl Period {
    /// The word of the configuration; none for what never begins anew.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Day => Some("day"),
            Self::Week => Some("week"),
            Self::Month => Some("month"),
            Self::Ever => None,
        }
    }
}

/// `500 USD per month`
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_str() {
            Some(period) => write!(f, "{} per {period}", self.amount),
            None => write!(f, "{} in all", self.amount),
        }
    }
}

// ===== impl Dates =====

impl Dates {
    /// Of a moment; what is before 1970 is its first day.
    pub fn at(moment: SystemTime) -> Self {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH);
        let days = since.unwrap_or(Duration::ZERO).as_secs() / 86_400;
        // 1970 began on a Thursday.
        let week = (days + 3) / 7;
        let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self([whole(days), whole(week), whole(month(days))])
    }

    /// As they are written: day, week, month.
    pub const fn numbers(self) -> [u32; 3] {
        self.0
    }

    /// As [`numbers`](Self::numbers) gave them.
    pub const fn of_numbers(numbers: [u32; 3]) -> Self {
        Self(numbers)
    }
}

/// The number of the month that a day lies in: the days of Howard Hinnant's `civil_from_days`, whose years begin in March.
fn month(days: u64) -> u64 {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months since March of the year 0; January of 1970 is the 23,638th of them.
    (era * 400 + year) * 12 + (5 * day + 2) / 153 - 23_638
}

// ===== impl Sums =====

impl Sums {
    /// Sums that were spent in the windows of these dates, in the order day, week, month, ever.
    pub fn restored(at: Dates, spent: [Usd; 4]) -> Self {
        let windows = spent.map(|spent| Window {
            spent: spent.0,
            reserved: 0,
        });
        Self { at, windows }
    }

    /// The windows that are open.
    pub fn dates(&self) -> Dates {
        self.at
    }

    /// What was spent, in the order day, week, month, ever.
    pub fn spent_in_all(&self) -> [Usd; 4] {
        self.windows.map(|window| Usd(window.spent))
    }

    /// What was spent in the open window of a period.
    pub fn spent(&self, period: Period) -> Usd {
        Usd(self.windows[period as usize].spent)
    }

    /// What is reserved in it.
    pub fn reserved(&self, period: Period) -> Usd {
        Usd(self.windows[period as usize].reserved)
    }

    /// Opens the windows of these dates, where they are later than those that are open.
    pub fn open(&mut self, now: Dates) {
        for ((at, now), window) in self.at.0.iter_mut().zip(now.0).zip(&mut self.windows) {
            if now > *at {
                *at = now;
                *window = Window::default();
            }
        }
    }

    /// What is neither spent nor reserved of a budget.
    pub fn left(&self, budget: Budget) -> Usd {
        let Window { spent, reserved } = self.windows[budget.per as usize];
        Usd(budget
            .amount
            .0
            .saturating_sub(spent.saturating_add(reserved)))
    }

    /// Reserves in the open windows; returns which they are.
    pub fn reserve(&mut self, amount: Usd) -> Dates {
        for window in &mut self.windows {
            window.reserved = window.reserved.saturating_add(amount.0);
        }
        self.at
    }

    /// What was reserved in the windows of these dates was spent, or less, or more. A window that is over is left alone.
    pub fn settle(&mut self, at: Dates, reserved: Usd, spent: Usd) {
        let same = |index: usize| self.at.0.get(index) == at.0.get(index);
        let open = [same(0), same(1), same(2), true];
        for (window, _) in self.windows.iter_mut().zip(open).filter(|(_, open)| *open) {
            window.reserved = window.reserved.saturating_sub(reserved.0);
            window.spent = window.spent.saturating_add(spent.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: u64) -> Dates {
        Dates::at(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400))
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        // 2024-02-29 was a Thursday, 2024-03-01 a Friday, 2024-03-04 a Monday.
        let leap = 19_782;
        let [feb, mar, mon] = [leap, leap + 1, leap + 4].map(|it| day(it).numbers());
        assert_eq!(feb[2] + 1, mar[2]);
        assert_eq!(feb[1], mar[1]);
        assert_eq!((mar[1] + 1, mar[2]), (mon[1], mon[2]));
        assert_eq!(feb[2], 54 * 12 + 1);
        assert_eq!(day(0).numbers(), [0, 0, 0]);
        // 1970-12-31 and 1971-01-01.
        assert_eq!((day(364).numbers()[2], day(365).numbers()[2]), (11, 12));
        assert_eq!(day(3).numbers()[1], 0, "the first Sunday");
        assert_eq!(day(4).numbers()[1], 1, "the first Monday");
    }

    #[test]
    fn costs_are_rounded_up_and_whole_ones_are_not() {
        assert_eq!(Usd::at_least(1.0), Usd::new(1.0));
        assert_eq!(Usd::at_least(0.1 + 0.2), Usd::new(0.3));
        assert_eq!(Usd::at_least(1.2e-10), Usd(2));
        assert_eq!((Usd::new(-1.0), Usd::new(f64::NAN)), (Usd::ZERO, Usd::ZERO));
        assert_eq!(Usd::new(1e300), Usd(u64::MAX));
    }

    /// R05, B06.
    #[test]
    fn a_window_opens_once_however_the_clock_jumps() {
        let budget = Budget {
            amount: Usd(10),
            per: Period::Day,
        };
        let mut sums = Sums::default();
        let mut opened = 0;
        for date in [100, 100, 101, 99, 101, 100, 103, 101, 102, 103] {
            sums.open(day(date));
            let left = sums.left(budget);
            if left == Usd(10) {
                opened += 1;
            }
            let at = sums.reserve(left);
            sums.settle(at, left, left);
        }
        assert_eq!(opened, 3, "days 100, 101 and 103");
        assert_eq!(sums.spent(Period::Ever), Usd(30));
    }

    /// B06: what spans midnight is of the day in which it was admitted.
    #[test]
    fn the_window_of_admission_is_charged() {
        let mut sums = Sums::default();
        sums.open(day(100));
        let at = sums.reserve(Usd(7));
        sums.open(day(101));
        assert_eq!(sums.reserved(Period::Day), Usd::ZERO);
        let later = sums.reserve(Usd(1));
        sums.settle(at, Usd(7), Usd(5));
        assert_eq!(
            (sums.spent(Period::Day), sums.reserved(Period::Day)),
            (Usd(0), Usd(1))
        );
        assert_eq!(sums.spent(Period::Ever), Usd(5));
        assert_eq!(sums.reserved(Period::Ever), Usd(1));
        sums.settle(later, Usd(1), Usd(2));
        assert_eq!(
            (sums.spent(Period::Day), sums.spent(Period::Ever)),
            (Usd(2), Usd(7))
        );
    }
}
