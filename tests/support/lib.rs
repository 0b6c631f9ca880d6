//! What the tests of the whole probe share.
