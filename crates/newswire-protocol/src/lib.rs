//! The wire of Newswire: events, commands, replies, codes and limits.
