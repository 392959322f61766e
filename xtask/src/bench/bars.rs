//! A value that the project is held to, and the bar it has to meet. Which values those are, each contest knows.

/// On which side of its bar a value has to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    /// As it is written: the sign and the number.
    pub(super) fn sides(self) -> (&'static str, f64) {
        match self {
            Limit::AtLeast(limit) => ("≥", limit),
            Limit::AtMost(limit) => ("≤", limit),
        }
    }
}

/// One bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    pub(super) name: &'static str,
    /// `None` when a row that it compares was not measured.
    pub(super) value: Option<f64>,
    pub(super) limit: Limit,
}

impl Bar {
    /// A value that must not be smaller.
    pub(super) fn at_least(name: &'static str, limit: f64, value: Option<f64>) -> Self {
        Self { name, value, limit: Limit::AtLeast(limit) }
    }

    /// A value that must not be greater.
    pub(super) fn at_most(name: &'static str, limit: f64, value: Option<f64>) -> Self {
        Self { name, value, limit: Limit::AtMost(limit) }
    }

    /// Whether the value is on the right side; `None` without a value.
    pub(super) fn met(&self) -> Option<bool> {
        self.value.map(|value| match self.limit {
            Limit::AtLeast(least) => value >= least,
            Limit::AtMost(most) => value <= most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_its_bar_meets_it_and_one_beyond_does_not() {
        assert_eq!(Bar::at_least("", 0.95, Some(0.95)).met(), Some(true));
        assert_eq!(Bar::at_least("", 0.95, Some(0.94)).met(), Some(false));
        assert_eq!(Bar::at_most("", 1.2, Some(1.2)).met(), Some(true));
        assert_eq!(Bar::at_most("", 1.2, Some(1.21)).met(), Some(false));
        assert_eq!(Bar::at_most("", 1.2, None).met(), None);
    }
}
