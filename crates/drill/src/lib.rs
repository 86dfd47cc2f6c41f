//! Plimsoll drill.
