//! Client of /dev/pidlist, the PID set in the kernel.
