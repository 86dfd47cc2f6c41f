//! Plimsoll engine.
