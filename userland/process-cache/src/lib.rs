//! Every process: the living, and for a while those that have exited.
