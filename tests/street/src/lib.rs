//! Black-box tests of the real binary over real sockets.
