//! The Newswire server and command line.
