//! The durable log of Newswire and the small shared state beside it.
