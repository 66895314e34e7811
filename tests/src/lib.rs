//! Black-box tests: they run the built things as a user would.
