//! A quantity of many runs beside their clean prompts', and the recovery that its means are.
//!
//! Over pairs there are two: the mean of each pair's own recovery, which a pair whose base and source hardly
//! differ decides, and the recovery of the means, (mean x − mean base) / (mean source − mean base), which
//! TransformerLens, ARENA and EAP-IG print.

/// A quantity of a run and of its pair's clean prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Of the run.
    pub run: f64,
    /// Of the clean base.
    pub base: f64,
    /// Of the clean source; NaN where there is none.
    pub source: f64,
}

impl Levels {
    /// (run − base) / (source − base): 0 as in the base, 1 as in the source; NaN or infinite where these do not
    /// differ.
    pub fn recovery(self) -> f64 {
        // no negative zero
        (self.run - self.base) / (self.source - self.base) + 0.0
    }
}

/// Sums of levels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LevelMeans {
    count: u32,
    run: f64,
    base: f64,
    source: f64,
}

impl LevelMeans {
    /// Adds those of a run, unless its own or the base's is not finite.
    pub fn add(&mut self, levels: Levels) {
        if levels.run.is_finite() && levels.base.is_finite() {
            self.count += 1;
            self.run += levels.run;
            self.base += levels.base;
            self.source += levels.source;
        }
    }

    /// The means; NaN of nothing.
    pub fn means(self) -> Levels {
        let mean = |sum: f64| sum / f64::from(self.count);
        Levels {
            run: mean(self.run),
            base: mean(self.base),
            source: mean(self.source),
        }
    }
}
