//! Measurements of Newswire beside a physical limit in the same run.
