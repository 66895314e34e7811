//! The three-level PID bitmap.
