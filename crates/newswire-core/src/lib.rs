//! The pure heart of Newswire: channels, filters, index, hub, backlog and session, without I/O.
