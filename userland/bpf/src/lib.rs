//! Loads the BPF programs, tells them the kernel's layout, and reads what they send.
