//! Plimsoll text.
