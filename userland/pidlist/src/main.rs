//! Every process on a Linux machine, the short-lived ones included.

fn main() {}
