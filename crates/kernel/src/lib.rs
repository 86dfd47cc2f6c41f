//! Plimsoll kernel.
